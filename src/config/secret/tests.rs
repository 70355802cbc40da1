//! References and what they lead to, in temporary directories and an invented environment.

use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

fn reference(text: &str) -> SecretRef {
    text.parse().unwrap()
}

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A file with this content, read as a secret.
fn read(content: &[u8]) -> Result<Secret, SecretError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    write(&path, content, 0o600);
    reference(&format!("file:{}", path.display())).resolve(&SecretSources::new(vec![], |_| None))
}

fn invalid(content: &[u8]) -> InvalidSecret {
    match read(content) {
        Err(SecretError::Invalid { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn references_read_back_as_they_are_written() {
    for text in ["credential:repository-password", "file:/etc/belay/x", "env:BELAY_PASSWORD"] {
        assert_eq!(reference(text).to_string(), text);
    }
}

#[test]
fn what_is_no_reference_is_refused_and_not_shown() {
    for text in [
        "hunter2",
        "",
        "credential:",
        "credential:../hunter2",
        "credential:a/b",
        "file:hunter2",
        "file:/a/../b",
        "env:",
        "env:1A",
        "env:A=B",
        "pass:hunter2",
        "CREDENTIAL:hunter2",
    ] {
        let error = text.parse::<SecretRef>().unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.hint()).contains("hunter2"), "{text}");
    }
}

#[test]
fn credentials_are_looked_for_in_systemds_directory_first() {
    let (systemd, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = [systemd.path().to_owned(), own.path().to_owned()];
    let sources = SecretSources::from_variables(move |name| match name {
        "CREDENTIALS_DIRECTORY" => Some(dirs[0].clone().into()),
        "BELAY_CREDENTIALS_DIR" => Some(dirs[1].clone().into()),
        _ => None,
    });
    let credential = reference("credential:a");

    let error = credential.resolve(&sources).unwrap_err();
    let (of_systemd, of_own) = (systemd.path().display(), own.path().display());
    let tried = format!("{of_systemd}/a and no {of_systemd}/_belay_a and no {of_own}/a");
    assert_eq!(
        error.to_string(),
        format!("the secret 'credential:a' was not found: there is no {tried}")
    );
    assert!(error.hint().unwrap().contains(&own.path().display().to_string()));

    write(&own.path().join("a"), b"own\n", 0o640);
    assert_eq!(credential.resolve(&sources).unwrap().expose(), "own");
    write(&systemd.path().join("_belay_a"), b"out of a directory", 0o400);
    assert_eq!(credential.resolve(&sources).unwrap().expose(), "out of a directory");
    write(&systemd.path().join("a"), b"systemd", 0o400);
    assert_eq!(credential.resolve(&sources).unwrap().expose(), "systemd");
}

#[test]
fn without_variables_the_documented_directory_is_used() {
    let sources = SecretSources::from_variables(|_| None);
    assert_eq!(sources.credential_places, [("/etc/belay/credentials".into(), "")]);
}

#[test]
fn a_credential_that_cannot_be_read_is_no_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let sources = SecretSources::new(vec![dir.path().to_owned()], |_| None);
    let error = reference("credential:a").resolve(&sources).unwrap_err();
    assert!(matches!(error, SecretError::Read { .. }), "{error:?}");
}

#[test]
fn a_file_that_everyone_may_read_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    for mode in [0o604, 0o644, 0o602, 0o666] {
        write(&path, b"hunter2", mode);
        let error = Secret::read_file(&path).unwrap_err();
        assert!(matches!(error, SecretError::OpenToEveryone { mode: found, .. } if found == mode));
        assert_eq!(error.hint().unwrap(), format!("chmod 600 {}", path.display()));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[test]
fn one_line_break_is_cut() {
    for (content, value) in [
        ("a", "a"),
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        ("a\r", "a\r"),
        (" a ", " a "),
        ("a\nb\n", "a\nb"),
    ] {
        assert_eq!(read(content.as_bytes()).unwrap().expose(), value, "{content:?}");
    }
    assert!(read(b" a").unwrap().has_outer_whitespace());
    assert!(read(b"a\n\n").unwrap().has_outer_whitespace());
    assert!(!read(b"a b\n").unwrap().has_outer_whitespace());
}

#[test]
fn what_cannot_be_a_secret_is_refused() {
    assert_eq!(invalid(b""), InvalidSecret::Empty);
    assert_eq!(invalid(b"\n"), InvalidSecret::Empty);
    assert_eq!(invalid(b"a\0b"), InvalidSecret::Nul);
    assert_eq!(invalid(b"\xff\xfe"), InvalidSecret::NotText);
    assert_eq!(invalid(&vec![b'x'; MAX_SECRET_BYTES + 1]), InvalidSecret::TooLong);
    assert_eq!(invalid(&vec![b'x'; MAX_SECRET_BYTES * 3]), InvalidSecret::TooLong);
    let greatest = [vec![b'x'; MAX_SECRET_BYTES], b"\r\n".to_vec()].concat();
    assert_eq!(read(&greatest).unwrap().expose().len(), MAX_SECRET_BYTES);
}

#[test]
fn variables_are_looked_up() {
    let sources = SecretSources::new(vec![], |name| match name {
        "SET" => Some("hunter2".into()),
        "EMPTY" => Some(OsString::new()),
        _ => None,
    });
    assert_eq!(reference("env:SET").resolve(&sources).unwrap().expose(), "hunter2");
    let unset = reference("env:UNSET").resolve(&sources).unwrap_err();
    assert_eq!(unset.to_string(), "the secret 'env:UNSET' was not found: the variable is not set");
    let empty = reference("env:EMPTY").resolve(&sources).unwrap_err();
    assert_eq!(empty.to_string(), "the secret in env:EMPTY cannot be used: it is empty");
}

#[test]
fn debug_output_hides_the_value() {
    let secret = Secret::new("hunter2".to_owned()).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    assert_eq!(Secret::new(String::new()).unwrap_err(), InvalidSecret::Empty);
}
