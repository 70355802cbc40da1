//! A notice as text for people: whole, as a line, and in the bounds that receivers set.

use crate::model::notice::Notice;
use std::fmt::Write as _;

/// The most of a log that is sent on, in bytes.
pub(super) const LOG_LIMIT: usize = 10_000;
/// The longest title, in characters.
const TITLE_LIMIT: usize = 200;
/// The most of a log that a chat shows, in bytes.
const CHAT_LOG_LIMIT: usize = 2_000;

/// One line without control characters, which may go into a header.
pub(super) fn title(notice: &Notice) -> String {
    let opening = if notice.reminder { "Reminder: " } else { "" };
    let line = format!("{opening}{}", notice.title);
    let words: Vec<&str> = line
        .split(|letter: char| letter.is_control() || letter.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(TITLE_LIMIT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Everything but the title, with at most so many bytes of the log, from its end.
pub(super) fn text(notice: &Notice, log_limit: usize) -> String {
    let mut text = String::new();
    let hint = notice.hint.as_ref().map(|hint| format!("What to do: {hint}"));
    for paragraph in [Some(notice.body.as_str()), hint.as_deref()].into_iter().flatten() {
        if !paragraph.trim().is_empty() {
            writeln!(text, "{}\n", paragraph.trim()).expect("a text takes all");
        }
    }
    let facts = [
        ("Instance", notice.instance.as_ref().map(ToString::to_string)),
        ("Job", notice.job.as_ref().map(ToString::to_string)),
        ("Since", notice.since.map(|since| format!("{since:.0}"))),
        ("Time", Some(format!("{:.0}", notice.at))),
        ("Host", Some(notice.host.clone())),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            writeln!(text, "{name}: {value}").expect("a text takes all");
        }
    }
    let log = tail(&notice.log, log_limit);
    if !log.is_empty() {
        writeln!(text, "\nThe end of the log:\n{log}").expect("a text takes all");
    }
    text
}

/// A message for Slack or Mattermost, `bold` being how they mark it. The three letters that they give a meaning are
/// escaped, so that nothing in a log can mention people or make links.
pub(super) fn chat(notice: &Notice, bold: &str) -> String {
    let mut without_log = notice.clone();
    without_log.log.clear();
    let mut chat = format!("{bold}{}{bold}\n{}", title(notice), text(&without_log, 0));
    let log = tail(&notice.log, CHAT_LOG_LIMIT);
    if !log.is_empty() {
        let fence = "```";
        write!(chat, "{fence}\n{}\n{fence}\n", log.replace(fence, "'''"))
            .expect("a text takes all");
    }
    chat.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// At most so many bytes of the end, from the beginning of a line where there is one.
pub(super) fn tail(text: &str, limit: usize) -> &str {
    let text = text.trim_end();
    if text.len() <= limit {
        return text;
    }
    let start = text.ceil_char_boundary(text.len() - limit);
    let rest = &text[start..];
    match rest.split_once('\n') {
        // A cut may fall on the end of a line.
        _ if text[..start].ends_with('\n') => rest,
        Some((_, lines)) => lines,
        None => rest,
    }
}

/// At most so many bytes of the beginning.
pub(super) fn head(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::notice;

    #[test]
    fn a_title_is_one_line() {
        let with = |title: &str, reminder| {
            super::title(&Notice { title: title.to_owned(), reminder, ..notice() })
        };
        assert_eq!(with(" a\r\nBcc: x\u{0}\u{85}\u{2028}b ", false), "a Bcc: x b");
        assert_eq!(with("still so", true), "Reminder: still so");
        assert_eq!(with(&"ä".repeat(300), false).chars().count(), TITLE_LIMIT + 1);
    }

    #[test]
    fn a_text_says_all_there_is_and_no_more() {
        insta::assert_snapshot!(text(&notice(), 100), @r"
    The server ‘db’ said: <no> & went away.

    What to do: start it

    Instance: production
    Job: 0101010101010101
    Since: 2026-11-20T22:00:00Z
    Time: 2026-11-21T22:00:00Z
    Host: prod1

    The end of the log:
    reading postgres
    pg_dump: error: connection lost
    ");
        let least = Notice {
            instance: None,
            job: None,
            since: None,
            body: String::new(),
            hint: None,
            log: String::new(),
            ..notice()
        };
        insta::assert_snapshot!(text(&least, 100), @r"
    Time: 2026-11-21T22:00:00Z
    Host: prod1
    ");
    }

    #[test]
    fn a_chat_cannot_be_made_to_mention_anybody() {
        let log = "<!channel> & <https://x|y>\n```\nafter".to_owned();
        insta::assert_snapshot!(chat(&Notice { log, ..notice() }, "*"), @r"
    *The backup of 'production' failed*
    The server ‘db’ said: &lt;no&gt; &amp; went away.

    What to do: start it

    Instance: production
    Job: 0101010101010101
    Since: 2026-11-20T22:00:00Z
    Time: 2026-11-21T22:00:00Z
    Host: prod1
    ```
    &lt;!channel&gt; &amp; &lt;https://x|y&gt;
    '''
    after
    ```
    ");
    }

    #[test]
    fn a_tail_is_of_whole_lines_where_it_can_be() {
        assert_eq!(tail("one\ntwo\nthree\n", 9), "two\nthree");
        assert_eq!(tail("one\ntwo\nthree", 8), "three");
        assert_eq!(tail("one\ntwo\nthree", 100), "one\ntwo\nthree");
        assert_eq!(tail("ääää", 5), "ää");
        assert_eq!(tail("", 5), "");
        assert_eq!(head("ääää", 5), "ää");
        assert_eq!(head("a", 5), "a");
    }
}
