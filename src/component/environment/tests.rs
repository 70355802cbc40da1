//! Reading, writing and merging environment files.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> EnvironmentFile {
    EnvironmentFile::parse(text.as_bytes()).unwrap()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let file = parse(text);
    file.keys().map(|key| (key.to_owned(), file.get(key).unwrap().to_owned())).collect()
}

/// The value that a line gives to `K`.
fn value(line: &str) -> Option<String> {
    parse(line).get("K").map(str::to_owned)
}

#[test]
fn values_are_read_as_their_readers_do() {
    for (line, expected) in [
        ("K=v", "v"),
        ("  K = v  ", "v"),
        ("export K=v", "v"),
        ("export\tK=v", "v"),
        ("K: v", "v"),
        ("K=", ""),
        ("K=''", ""),
        ("K=\"\" # c", ""),
        ("K= # c", ""),
        ("K=#c", ""),
        ("K=a b # c", "a b"),
        ("K=a#b", "a#b"),
        ("K='a # b' # c", "a # b"),
        ("K='$A\\n\"'", "$A\\n\""),
        ("K='Let\\'s go'", "Let's go"),
        ("K=\"a\\n\\t\\\"\\\\x\\$A\\q\"", "a\n\t\"\\x$A\\q"),
        ("K=a=b==", "a=b=="),
        ("K=it's", "it's"),
        ("K=\"one\r\ntwo\nthree\"\r\n", "one\ntwo\nthree"),
        ("K='one\ntwo'", "one\ntwo"),
        ("K=\"never closed", "\"never closed"),
        ("\u{feff}K=v", "v"),
        ("K=v\r\n", "v"),
        ("K=1\nK=2", "2"),
    ] {
        assert_eq!(value(line).as_deref(), Some(expected), "{line:?}");
    }
}

#[test]
fn lines_that_assign_nothing_are_passed_over() {
    for line in ["", "#K=v", "  # K=v", "K", "K v", "=v", "K:v", "exportK v", "K\n=v", "Ä=1"] {
        assert_eq!(value(line), None, "{line:?}");
    }
    assert_eq!(EnvironmentFile::parse(b"K=\xff").unwrap_err(), NotText);
    assert_eq!(EnvironmentFile::parse(b"K=\0").unwrap_err(), NotText);
}

#[test]
fn each_variable_is_listed_once_where_it_takes_effect() {
    let text = "# c\nA=1\r\nB='x\ny' # c\n\nexport A=3\nno assignment\nC=4";
    let expected = [("B", "x\ny"), ("A", "3"), ("C", "4")];
    assert_eq!(pairs(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn the_fixture_reads_as_it_stands() {
    let text = "# ToolJet\nLOCKBOX_MASTER_KEY=0101\nPG_HOST=localhost\nTOOLJET_HOST=http://localhost:8082\n";
    assert_eq!(parse(text).get("TOOLJET_HOST"), Some("http://localhost:8082"));
    assert_eq!(
        format!("{:?}", parse(text)),
        r#"{"LOCKBOX_MASTER_KEY", "PG_HOST", "TOOLJET_HOST"}"#
    );
}

#[test]
fn a_value_is_written_in_the_plainest_way_that_reads_the_same_everywhere() {
    let quoted = |value| quote(value).map(|text| text.to_string());
    for (value, expected) in [
        ("http://h:80/a?b=c", "'http://h:80/a?b=c'"),
        ("postgres://u:p@h/d", "postgres://u:p@h/d"),
        ("", "''"),
        (" x ", "' x '"),
        ("a#b", "'a#b'"),
        ("$A", "'$A'"),
        ("\"\\n\"", "'\"\\n\"'"),
        ("it's", "\"it's\""),
        ("it's #1\nx", "\"it's #1\nx\""),
        ("it's \"x\"", "it's \"x\""),
        ("back\\", "back\\"),
    ] {
        assert_eq!(quoted(value).as_deref(), Ok(expected), "{value:?}");
    }
    for unwritable in ["it's $A", "'\"", "'\"#", "a\rb", "\0", " \\", "$\\"] {
        assert_eq!(quoted(unwritable), Err(UnwritableValue), "{unwritable:?}");
    }
}

const KEYS: [&str; 2] = ["LOCKBOX_MASTER_KEY", "SECRET_KEY_BASE"];
const CONNECTION: [&str; 2] = ["PG_HOST", "PG_PASS"];

fn merged(target: &str, snapshot: &str) -> (String, Merged) {
    let merged = merge(&parse(target), &parse(snapshot), &KEYS, &CONNECTION).unwrap();
    (String::from_utf8(merged.content.to_vec()).unwrap(), merged)
}

#[test]
fn a_variable_gets_another_value_whatever_it_was() {
    for (text, value) in
        [("", "a b"), ("KEY=old", "new"), ("A=1\nKEY='old\nlines'\n", "#$x"), ("OTHER=1\n", "")]
    {
        let with = parse(text).with("KEY", value).unwrap();
        assert_eq!(with.get("KEY"), Some(value), "{text}");
        assert_eq!(with.keys().filter(|key| *key == "KEY").count(), 1);
    }
    assert_eq!(parse("A=1").with("KEY", "1").unwrap().get("A"), Some("1"));
    for (text, value) in [("A='not closed", "#$x"), ("", "both ' and $")] {
        let error = parse(text).with("KEY", value).unwrap_err();
        assert!(error.to_string().contains("KEY"), "{text}: {error}");
    }
}

#[test]
fn keys_come_back_and_all_else_of_the_target_stays() {
    let target = "# the target\r\nPG_HOST = new # where\r\nexport LOCKBOX_MASTER_KEY=\"new key\" # do not lose\r\n\r\nCOLOUR=blue\r\nLOCKBOX_MASTER_KEY= # second\r\nodd line";
    let snapshot = "LOCKBOX_MASTER_KEY='old $key'\nPG_HOST=old\nPG_PASS=old\nCOLOUR=red\nSHAPE=\"round\\n$COLOUR\"\n";
    let (text, merged) = merged(target, snapshot);
    assert_eq!(
        text,
        "# the target\r\nPG_HOST = new # where\r\nexport LOCKBOX_MASTER_KEY=\"new key\" # do not lose\r\n\r\nCOLOUR=blue\r\nLOCKBOX_MASTER_KEY='old $key' # second\r\nodd line\r\nSHAPE=\"round\\n$COLOUR\"\r\n"
    );
    assert_eq!(merged.replaced, ["LOCKBOX_MASTER_KEY"]);
    assert_eq!(merged.added, ["SHAPE"]);
    assert_eq!(merged.kept, ["PG_HOST", "COLOUR"]);
    assert!(!format!("{merged:?}").contains("old"), "{merged:?}");
}

#[test]
fn what_is_the_same_already_is_left_as_it_is() {
    let target = "SECRET_KEY_BASE='abc'\nLOCKBOX_MASTER_KEY=def";
    let (text, merged) = merged(target, "LOCKBOX_MASTER_KEY=\"def\"\nSECRET_KEY_BASE=abc\n");
    assert_eq!(text, target);
    assert_eq!((merged.replaced.len(), merged.added.len(), merged.kept.len()), (0, 0, 0));
}

#[test]
fn a_target_without_a_file_gets_all_but_what_belongs_to_it() {
    let (text, merged) = merged("", "A=1\nPG_PASS=old\nLOCKBOX_MASTER_KEY=k # c\nA=2\n");
    assert_eq!(text, "LOCKBOX_MASTER_KEY=k\nA=2\n");
    assert_eq!(merged.added, ["LOCKBOX_MASTER_KEY", "A"]);
}

#[test]
fn a_merge_that_would_not_read_back_is_refused() {
    let target = parse("NOTE=\"never closed\nLOCKBOX_MASTER_KEY=new\n");
    let snapshot = parse("LOCKBOX_MASTER_KEY=\"old\"\n");
    let error = merge(&target, &snapshot, &KEYS, &CONNECTION).unwrap_err();
    assert_eq!(error, MergeError::DoesNotReadBack { key: "LOCKBOX_MASTER_KEY".to_owned() });
}

/// Values of the letters that mean something to somebody.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof!["[a'\"`\\\\$# \t\n{}=:rnt-]{0,8}", "\\PC{0,12}"]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in any_value(), before in any_value(), export in any::<bool>()) {
        let (Ok(quoted), Ok(before_quoted)) = (quote(&value), quote(&before)) else { return Ok(()) };
        let export = if export { "export " } else { "" };
        for line_break in ["\n", "\r\n"] {
            let text = format!(
                "B={}{line_break}{export}K={} # c{line_break}A=1", *before_quoted, *quoted
            );
            let file = parse(&text);
            prop_assert_eq!(file.get("K"), Some(value.as_str()), "{}", text);
            prop_assert_eq!(file.get("B"), Some(before.as_str()));
            prop_assert_eq!(file.get("A"), Some("1"));
        }
    }

    #[test]
    fn reading_and_merging_anything_ends_without_a_panic(
        target in "([AB]|export A|#|\n|\r\n|[='\"\\\\$ :]|\\PC){0,20}",
        snapshot in "([AB]|export A|#|\n|\r\n|[='\"\\\\$ :]|\\PC){0,20}",
    ) {
        let (target, snapshot) = (parse(&target), parse(&snapshot));
        if let Ok(merged) = merge(&target, &snapshot, &["A"], &[]) {
            let written = EnvironmentFile::parse(&merged.content).unwrap();
            let expected = snapshot.get("A").or(target.get("A"));
            prop_assert_eq!(written.get("A"), expected);
            prop_assert_eq!(written.get("B"), target.get("B").or(snapshot.get("B")));
        }
    }
}
