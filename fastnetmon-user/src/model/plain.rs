//! Words of others as they may be shown.
//!
//! **Invariant**: what comes out moves no cursor, ends no line and turns no writing round.

/// This text with a space for each character that is a command to a terminal, a browser or an editor
/// rather than a letter, and no longer than `most` characters.
pub fn plain(text: &str, most: usize) -> String {
    text.chars().map(|c| if is_command(c) { ' ' } else { c }).take(most).collect()
}

/// The same on one line, in words with one space between them.
pub fn plain_words(text: &str, most: usize) -> String {
    plain(text, most).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// C0, DEL and C1; ends of lines and paragraphs; and all of Unicode's `Bidi_Control`, with which a
/// name can make what stands beside it read otherwise.
fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_all_scripts_stay_and_commands_do_not() {
        for text in ["Example Net", "Пример", "例え", "مثال", "نمی\u{200c}خواهم", "é 😀"]
        {
            assert_eq!(plain(text, 99), text);
        }
        let commands = ['\0', '\n', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{9f}']
            .into_iter()
            .chain(['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'])
            .chain('\u{202a}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}');
        for command in commands {
            assert_eq!(plain(&format!("a{command}b"), 99), "a b", "{command:?}");
        }
        assert_eq!(plain("é\u{202e}éé", 3), "é é");
        assert_eq!(plain_words(" a \u{202e}\r\n b ", 99), "a b");
    }
}
