"""Names of files in messages: whatever a name contains, a message stays one line that any terminal can show."""

import os

from vidar.printable import one_line, printable


def test_control_characters_and_bytes_that_are_no_text_are_escaped():
    name = os.fsdecode(b"a\nb\x1b[31m\xff.csv")
    assert printable(f"\tx {name}\u2028") == "\tx a\\nb\\x1b[31m\\udcff.csv\\u2028"
    assert printable("Zu\u0308rich \u65e5\u672c") == "Zu\u0308rich \u65e5\u672c"
    for text in (printable(name), one_line(name)):
        assert text.encode() and text.isprintable()


def test_a_message_is_one_line():
    assert one_line("a\n  b\r\n\x1b[0m") == "a b \\x1b[0m"
