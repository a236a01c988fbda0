"""Grid, Relation, Order, Step, Layout, masks and the one decode loop: pure, no paper names."""
