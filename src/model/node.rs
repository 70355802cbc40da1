//! One entry of a file tree with everything about it but its content, as it is on disk.
//!
//! Names and link targets are bytes: Linux asks for no encoding.

use jiff::Timestamp;

/// What kind of entry a node is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file, with its size in bytes.
    File {
        /// Bytes of content, holes counted.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link with its target as stored, which need not exist.
    Symlink {
        /// The target, uninterpreted.
        target: Vec<u8>,
    },
    /// A block device.
    BlockDevice {
        /// Major and minor number, as `st_rdev` encodes them.
        device: u64,
    },
    /// A character device.
    CharDevice {
        /// Major and minor number, as `st_rdev` encodes them.
        device: u64,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket, which cannot be restored but is recorded.
    Socket,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedAttribute {
    /// Its full name, such as `user.comment` or `system.posix_acl_access`.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// An entry's name and metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The last component of its path: never empty, `.` or `..`, without `/` and NUL.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits with set-user-id, set-group-id and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name on the machine that was backed up; empty where it has none.
    pub user: String,
    /// The group's name on the machine that was backed up; empty where it has none.
    pub group: String,
    /// Inode number: together with `device_id` tells hard links of one file.
    pub inode: u64,
    /// The file system's device number.
    pub device_id: u64,
    /// Number of hard links.
    pub links: u64,
    /// Extended attributes, sorted by name; access control lists are among them.
    pub extended_attributes: Vec<ExtendedAttribute>,
}

/// Whether bytes may be an entry's name: not empty, `.` or `..`, and without `/` and NUL.
/// Everything that is read from a repository goes through this before it touches a disk.
pub fn is_valid_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// A path for people: bytes that are not UTF-8, control characters and backslashes are written as escapes, so that a
/// name cannot play with the terminal.
pub fn display_path(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' || plays_with_terminal(character) {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        for byte in chunk.invalid() {
            shown.extend([*byte].escape_ascii().map(char::from));
        }
    }
    shown
}

/// The bytes of a path that a person gives as [`display_path`] shows it. What is no escape stands for itself.
pub fn parse_path(shown: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match parse_escape(after).filter(|_| byte == b'\\') {
            Some((bytes, length)) => {
                path.extend(bytes);
                rest = &after[length..];
            }
            None => path.push(byte),
        }
    }
    path
}

/// What the text behind a backslash stands for, and how long it is.
fn parse_escape(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let number = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        // `from_str_radix` takes a sign, too.
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_hex { u32::from_str_radix(digits, 16).ok() } else { None }
    };
    match *text {
        [b'\\', ..] => Some((vec![b'\\'], 1)),
        [b'n', ..] => Some((vec![b'\n'], 1)),
        [b'r', ..] => Some((vec![b'\r'], 1)),
        [b't', ..] => Some((vec![b'\t'], 1)),
        [b'x', high, low, ..] => Some((vec![u8::try_from(number(&[high, low])?).ok()?], 3)),
        [b'u', b'{', ..] => {
            let end = text.iter().position(|byte| *byte == b'}')?;
            let character = char::from_u32(number(&text[2..end])?)?;
            Some((character.encode_utf8(&mut [0; 4]).as_bytes().to_vec(), end + 1))
        }
        _ => None,
    }
}

/// Whether a terminal would obey a character rather than show it: control characters, and those that turn the direction
/// of writing or show nothing.
pub fn plays_with_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_that_is_shown_can_be_given_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            text in "[\\\\a-z{}0-9\\PC\\p{Cc}\u{200b}-\u{202e}]{0,40}",
        ) {
            for path in [bytes.as_slice(), text.as_bytes()] {
                prop_assert_eq!(parse_path(display_path(path).as_bytes()), path);
            }
        }
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        for text in
            ["C:\\data", "\\", "\\x+f", "\\xg0", "\\u{d800}", "\\u{41", "\\u{110000}", "a\\ b"]
        {
            assert_eq!(parse_path(text.as_bytes()), text.as_bytes(), "{text}");
        }
        assert_eq!(parse_path(b"\xff\\xfe"), b"\xff\xfe");
    }

    #[test]
    fn names_that_leave_their_directory_are_invalid() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
        for name in [&b"a"[..], b"...", b" ", b"\xff\xfe", b"a\nb", b"\\"] {
            assert!(is_valid_name(name), "{name:?}");
        }
    }

    #[test]
    fn paths_are_shown_without_playing_with_the_terminal() {
        assert_eq!(display_path("naïve ☂/a b".as_bytes()), "naïve ☂/a b");
        assert_eq!(display_path(b"a\x1b[31m\n\\\xff"), "a\\u{1b}[31m\\n\\\\\\xff");
    }
}
