"""Grid, Relation, Order, Step, Layout, masks and the one decode loop; pure functions and records that name no paper."""
