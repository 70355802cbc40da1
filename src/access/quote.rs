//! Quoting for the shell at the far end of `ssh`, which gets one text instead of a list of arguments.

/// A list of arguments as one text that a shell splits into the same arguments again.
///
/// Quotes and backslashes stand outside of the single quotes: within them the shells differ (fish takes `\'` for a quote),
/// outside they agree.
pub fn join(arguments: &[Vec<u8>]) -> Vec<u8> {
    let quoted: Vec<Vec<u8>> = arguments.iter().map(|argument| quote(argument)).collect();
    quoted.join(&b' ')
}

fn quote(argument: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(byte);
    if !argument.is_empty() && argument.iter().all(is_plain) {
        return argument.to_vec();
    }
    let mut quoted = vec![b'\''];
    for byte in argument {
        if matches!(byte, b'\'' | b'\\') {
            quoted.extend([b'\'', b'\\', *byte, b'\'']);
        } else {
            quoted.push(*byte);
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_splits_what_was_joined(
            arguments in proptest::collection::vec(proptest::collection::vec(1_u8.., 0..30), 1..6)
        ) {
            let mut script = b"printf '%s\\0' ".to_vec();
            script.extend(join(&arguments));
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(OsStr::from_bytes(&script))
                .output()
                .unwrap();
            let expected: Vec<u8> =
                arguments.iter().flat_map(|argument| [argument, &b"\0"[..]].concat()).collect();
            prop_assert_eq!(output.stdout, expected);
        }
    }
}
