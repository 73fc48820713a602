//! A command written as one text, split into program and arguments without a shell.
//!
//! Quotes and backslashes group as in a POSIX shell: nothing is special between single quotes, a backslash keeps the
//! next character otherwise (between double quotes only `"`, `\`, `$` and `` ` ``). Nothing is expanded, since no shell
//! is started; what looks as if one were expected is reported.

/// Program and arguments, and the first sign that the author expected a shell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    pub words: Vec<String>,
    pub shell_sign: Option<&'static str>,
}

/// What only a shell understands, where it stands outside of quotes; longer ones first.
const SHELL_SIGNS: [&str; 9] = ["&&", "||", "|", "&", ";", ">", "<", "$", "`"];

/// Splits a command. The error says which quote is not closed.
pub(super) fn split(text: &str) -> Result<Split, String> {
    let mut split = Split::default();
    let mut word: Option<String> = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => split.words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(format!("the quote {c} is opened and never closed")),
                        Some((_, end)) if end == c => break,
                        Some((_, '\\')) if c == '"' => match chars.next_if(|(_, next)| "\"\\$`".contains(*next)) {
                            Some((_, kept)) => word.push(kept),
                            None => word.push('\\'),
                        },
                        Some((_, other)) => {
                            if c == '"' && matches!(other, '$' | '`') && split.shell_sign.is_none() {
                                split.shell_sign = Some(if other == '$' { "$" } else { "`" });
                            }
                            word.push(other);
                        }
                    }
                }
            }
            '\\' => match chars.next() {
                Some((_, kept)) => word.get_or_insert_default().push(kept),
                None => return Err("nothing follows the backslash at its end".to_owned()),
            },
            _ => {
                if split.shell_sign.is_none() {
                    split.shell_sign = SHELL_SIGNS.into_iter().find(|sign| text[at..].starts_with(sign));
                }
                word.get_or_insert_default().push(c);
            }
        }
    }
    split.words.extend(word);
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text).expect("every quote is closed").words
    }

    #[test]
    fn a_command_is_split_at_spaces_and_quotes_group() {
        assert_eq!(words("  /app  --port 80 "), ["/app", "--port", "80"]);
        assert_eq!(words(r#"sh -c 'echo "a b"; true' x"y z"w ''"#), ["sh", "-c", "echo \"a b\"; true", "xy zw", ""]);
        assert_eq!(words(r#"a\ b "c\"d\e""#), ["a b", "c\"d\\e"]);
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn what_only_a_shell_understands_is_noticed_unless_it_is_quoted() {
        for (text, sign) in [
            ("a && b", Some("&&")),
            ("a | b", Some("|")),
            ("echo $HOME", Some("$")),
            ("echo \"$HOME\"", Some("$")),
            ("a > b", Some(">")),
            ("sh -c 'a && b'", None),
            ("echo \\$5", None),
        ] {
            assert_eq!(split(text).expect("every quote is closed").shell_sign, sign, "{text}");
        }
    }

    #[test]
    fn an_open_quote_is_a_mistake() {
        assert!(split("a 'b").is_err());
        assert!(split("a \"b\\").is_err());
        assert!(split("a \\").is_err());
    }
}
