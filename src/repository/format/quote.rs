//! Names in trees: bytes quoted as Go's `strconv.Quote` does, without the quotes, and JSON strings as Go's encoder
//! writes them. Equal trees have equal bytes only if every writer does it alike.

use super::FormatError;
use std::fmt::Write as _;

/// `name`, quoted. Bytes that are not UTF-8 become `\xNN`.
pub fn quote(name: &[u8]) -> String {
    let mut quoted = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_character(character, &mut quoted);
        }
        for byte in chunk.invalid() {
            push_escape(&mut quoted, format_args!("\\x{byte:02x}"));
        }
    }
    quoted
}

fn quote_character(character: char, quoted: &mut String) {
    match character {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        ' '..='~' => quoted.push(character),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        '\0'..='\x1f' | '\x7f' => push_escape(quoted, format_args!("\\x{:02x}", character as u32)),
        _ if is_printable(character) => quoted.push(character),
        '\0'..='\u{ffff}' => push_escape(quoted, format_args!("\\u{:04x}", character as u32)),
        _ => push_escape(quoted, format_args!("\\U{:08x}", character as u32)),
    }
}

fn push_escape(text: &mut String, escape: std::fmt::Arguments<'_>) {
    text.write_fmt(escape).expect("writing to a String cannot fail");
}

/// Whether Go prints a character beyond ASCII as it is. Rust's debug escapes follow the same Unicode categories
/// (both keep letters, marks, numbers, punctuation and symbols), and leave a combining mark alone only behind another
/// character.
fn is_printable(character: char) -> bool {
    let text: String = ['a', character].iter().collect();
    text.escape_debug().nth(1) == Some(character)
}

/// The bytes that [`quote`] was given.
pub fn unquote(quoted: &str) -> Result<Vec<u8>, FormatError> {
    let invalid = || FormatError::invalid(format!("the name {quoted:?} is quoted wrongly"));
    let mut name = Vec::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            name.extend(character.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = characters.next().ok_or_else(invalid)?;
        let mut number = |digits: usize, radix: u32, first: Option<char>| {
            let mut value = first.map_or(Some(0), |digit| digit.to_digit(radix))?;
            for _ in 0..digits {
                value =
                    value.checked_mul(radix)?.checked_add(characters.next()?.to_digit(radix)?)?;
            }
            Some(value)
        };
        let byte = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' => escape as u8,
            'x' => u8::try_from(number(2, 16, None).ok_or_else(invalid)?).map_err(|_| invalid())?,
            '0'..='7' => u8::try_from(number(2, 8, Some(escape)).ok_or_else(invalid)?)
                .map_err(|_| invalid())?,
            'u' | 'U' => {
                let value =
                    number(if escape == 'u' { 4 } else { 8 }, 16, None).ok_or_else(invalid)?;
                let character = char::from_u32(value).ok_or_else(invalid)?;
                name.extend(character.encode_utf8(&mut [0; 4]).bytes());
                continue;
            }
            _ => return Err(invalid()),
        };
        name.push(byte);
    }
    Ok(name)
}

/// Append `text` to `out` as a JSON string, as Go's encoder writes it: `<`, `>`, `&` and two line separators escaped.
pub fn push_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut from = 0;
    for (at, character) in text.char_indices() {
        let escape = match character {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                format!("\\u{:04x}", character as u32)
            }
            _ => continue,
        };
        out.extend(&text.as_bytes()[from..at]);
        out.extend(escape.as_bytes());
        from = at + character.len_utf8();
    }
    out.extend(&text.as_bytes()[from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_quoted_as_go_quotes_them() {
        for (name, expected) in [
            (&b"plain name"[..], "plain name"),
            (b"a\"b\\c", "a\\\"b\\\\c"),
            (b"\x01\x07\n\x7f", "\\x01\\a\\n\\x7f"),
            (b"latin-\xff-name", "latin-\\xff-name"),
            ("naïve ☂".as_bytes(), "naïve ☂"),
            ("e\u{301}".as_bytes(), "e\u{301}"),
            ("\u{a0}\u{200b}\u{2028}".as_bytes(), "\\u00a0\\u200b\\u2028"),
            ("\u{e0001}".as_bytes(), "\\U000e0001"),
            ("\u{301}'".as_bytes(), "\u{301}'"),
        ] {
            assert_eq!(quote(name), expected);
            assert_eq!(unquote(expected).unwrap(), name);
        }
    }

    #[test]
    fn wrong_quoting_is_refused() {
        for quoted in
            ["\\", "\\x", "\\x1", "\\xgg", "\\u12", "\\ud800", "\\q", "\\777", "\\U00110000"]
        {
            assert!(unquote(quoted).is_err(), "{quoted}");
        }
        assert_eq!(unquote("\\101\\'").unwrap(), b"A'");
    }

    #[test]
    fn json_strings_are_escaped_as_go_escapes_them() {
        let mut out = Vec::new();
        push_json_string("a<b>&\"\\\n\u{1}\u{2028}☂", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\u0001\\u2028☂\""
        );
    }

    proptest! {
        #[test]
        fn any_name_survives(name in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(unquote(&quote(&name)).unwrap(), name);
        }

        #[test]
        fn any_json_string_survives(text in ".*") {
            let mut out = Vec::new();
            push_json_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
