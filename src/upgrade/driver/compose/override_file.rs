//! The override file that pins an image, as text: one line is put into what a person wrote, and nothing else is touched.
//!
//! There is no YAML reader here. Whoever writes the text compares what Compose makes of it with what it made before, and takes
//! nothing that changed more than the image.

/// Stands behind the line that is Belay's.
const MARK: &str = "# pinned by Belay";

const HEAD: &str = "# Belay pins here which image a service runs, so that nothing but an upgrade changes it. Docker Compose reads this file by itself.\n";

/// Why the line cannot be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmergeable {
    /// The file names an image for the service itself.
    OwnImage,
    /// It is written in a way in which no line can be put in.
    Form,
}

/// The file with the image of a service pinned to this reference. `None` is a file that is not there.
pub(super) fn with_image(
    old: Option<&str>,
    service: &str,
    reference: &str,
) -> Result<String, Unmergeable> {
    let pin = |indent: usize| format!("{}image: \"{reference}\" {MARK}", " ".repeat(indent));
    let old = old.unwrap_or_default();
    if old.trim().is_empty() {
        return Ok(format!("{HEAD}services:\n  {service}:\n{}\n", pin(4)));
    }
    let mut lines: Vec<String> = old.lines().map(ToOwned::to_owned).collect();
    let Some(services) = lines.iter().position(|line| is_key(line, 0, "services")) else {
        if lines.iter().any(|line| line.starts_with("services") || line.starts_with('{')) {
            return Err(Unmergeable::Form);
        }
        lines.extend(["services:".to_owned(), format!("  {service}:"), pin(4)]);
        return Ok(joined(&lines));
    };
    let end = end_of_block(&lines, services, 0);
    let first = (services + 1..end).find(|&at| is_content(&lines[at]));
    let indent = first.map_or(2, |at| indent_of(&lines[at]));
    let own = (services + 1..end).find(|&at| {
        let line = &lines[at];
        indent_of(line) == indent && key_of(line).is_some_and(|key| key == service)
    });
    let Some(own) = own else {
        let new = [format!("{}{service}:", " ".repeat(indent)), pin(indent + 2)];
        lines.splice((services + 1)..=services, new);
        return Ok(joined(&lines));
    };
    if !is_key(&lines[own], indent, service) {
        return Err(Unmergeable::Form);
    }
    let end = end_of_block(&lines, own, indent);
    let inner = (own + 1..end).find(|&at| is_content(&lines[at]));
    let inner = inner.map_or(indent + 2, |at| indent_of(&lines[at]));
    let image = (own + 1..end).find(|&at| {
        indent_of(&lines[at]) == inner && key_of(&lines[at]).is_some_and(|key| key == "image")
    });
    match image {
        Some(at) if lines[at].trim_end().ends_with(MARK) => lines[at] = pin(inner),
        Some(_) => return Err(Unmergeable::OwnImage),
        None => lines.insert(own + 1, pin(inner)),
    }
    Ok(joined(&lines))
}

/// The image of a service in what `docker compose config` prints, which is always of the same form.
pub(super) fn image_in(printed: &str, service: &str) -> Option<String> {
    let line = image_line(printed, service)?;
    let value = printed.lines().nth(line)?.trim().strip_prefix("image:")?.trim();
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Whether two such texts are the same but for the images of these services.
pub(super) fn differ_by_image_only(one: &str, other: &str, services: &[&str]) -> bool {
    let without = |text: &str| -> Vec<String> {
        let images: Vec<usize> =
            services.iter().filter_map(|service| image_line(text, service)).collect();
        let kept = text.lines().enumerate().filter(|(at, _)| !images.contains(at));
        let kept: Vec<&str> = kept.map(|(_, line)| line).collect();
        with_lists_in_order(&kept)
    };
    without(one) == without(other)
}

/// The lines with the items of each list in an order of their own: the older Compose sorts volumes and ports where it merges files.
fn with_lists_in_order(lines: &[&str]) -> Vec<String> {
    let (mut ordered, mut at) = (Vec::new(), 0);
    while let Some(line) = lines.get(at) {
        let indent = indent_of(line);
        let begins = |line: &str| indent_of(line) == indent && line.trim_start().starts_with("- ");
        if !begins(line) {
            ordered.push((*line).to_owned());
            at += 1;
            continue;
        }
        let mut items: Vec<String> = Vec::new();
        while let Some(line) = lines.get(at) {
            match items.last_mut() {
                _ if begins(line) => items.push((*line).to_owned()),
                // What belongs to an item stays with it.
                Some(item) if indent_of(line) > indent => {
                    item.push('\n');
                    item.push_str(line);
                }
                _ => break,
            }
            at += 1;
        }
        items.sort_unstable();
        ordered.extend(items);
    }
    ordered
}

fn image_line(printed: &str, service: &str) -> Option<usize> {
    let lines: Vec<String> = printed.lines().map(ToOwned::to_owned).collect();
    let services = lines.iter().position(|line| is_key(line, 0, "services"))?;
    let end = end_of_block(&lines, services, 0);
    let own = (services + 1..end).find(|&at| is_key(&lines[at], 2, service))?;
    let end = end_of_block(&lines, own, 2);
    (own + 1..end).find(|&at| {
        indent_of(&lines[at]) == 4 && key_of(&lines[at]).is_some_and(|key| key == "image")
    })
}

fn joined(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Neither blank nor a comment.
fn is_content(line: &str) -> bool {
    let text = line.trim();
    !text.is_empty() && !text.starts_with('#')
}

/// The line behind a block that begins with a key of this indentation.
fn end_of_block(lines: &[String], begin: usize, indent: usize) -> usize {
    let is_outside = |line: &String| is_content(line) && indent_of(line) <= indent;
    let rest = lines.iter().skip(begin + 1).position(is_outside);
    rest.map_or(lines.len(), |count| begin + 1 + count)
}

/// What stands before the first colon.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start().split_once(':')?;
    Some(key.trim_matches(['"', '\'']))
}

/// Whether a line is a key of this indentation with nothing but a comment behind it.
fn is_key(line: &str, indent: usize, key: &str) -> bool {
    let Some((_, rest)) = line.trim_start().split_once(':') else { return false };
    let rest = rest.trim();
    indent_of(line) == indent
        && key_of(line) == Some(key)
        && (rest.is_empty() || rest.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(old: &str) -> Result<String, Unmergeable> {
        with_image(Some(old), "app", "a:v2@sha256:ff")
    }

    #[test]
    fn a_new_file_has_the_pin_and_is_changed_when_another_is_pinned() {
        let new = with_image(None, "app", "a:v1@sha256:ee").unwrap();
        assert_eq!(
            new,
            format!("{HEAD}services:\n  app:\n    image: \"a:v1@sha256:ee\" # pinned by Belay\n")
        );
        let again = merged(&new).unwrap();
        assert_eq!(again, new.replace("a:v1@sha256:ee", "a:v2@sha256:ff"));
        assert_eq!(merged(&again).unwrap(), again);
        assert_eq!(merged("\n").unwrap(), again);
    }

    #[test]
    fn what_a_person_wrote_stays_as_it_was() {
        for (old, expected) in [
            (
                "# mine\nservices:\n  app:   # ours\n    ports: [\"80:80\"]\n\n  db:\n    image: postgres:15.3\n",
                "# mine\nservices:\n  app:   # ours\n    image: \"a:v2@sha256:ff\" # pinned by Belay\n    ports: [\"80:80\"]\n\n  db:\n    image: postgres:15.3\n",
            ),
            (
                "services:\n    db:\n        image: x\nvolumes: {}\n",
                "services:\n    app:\n      image: \"a:v2@sha256:ff\" # pinned by Belay\n    db:\n        image: x\nvolumes: {}\n",
            ),
            (
                "networks:\n  default: {}\n",
                "networks:\n  default: {}\nservices:\n  app:\n    image: \"a:v2@sha256:ff\" # pinned by Belay\n",
            ),
            (
                "services:\nvolumes: {}\n",
                "services:\n  app:\n    image: \"a:v2@sha256:ff\" # pinned by Belay\nvolumes: {}\n",
            ),
            (
                "services:\n  \"app\":\n    environment:\n      image: mine\n",
                "services:\n  \"app\":\n    image: \"a:v2@sha256:ff\" # pinned by Belay\n    environment:\n      image: mine\n",
            ),
        ] {
            assert_eq!(merged(old).unwrap(), expected);
            assert_eq!(merged(expected).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_merged_is_told() {
        for (old, why) in [
            ("services:\n  app:\n    image: mine:latest\n", Unmergeable::OwnImage),
            ("services:\n  app:\n    ports: []\n    \"image\": mine\n", Unmergeable::OwnImage),
            ("services:\n  app: { image: mine }\n", Unmergeable::Form),
            ("services:\n  app: &x\n    ports: []\n", Unmergeable::Form),
            ("services: { app: {} }\n", Unmergeable::Form),
            ("{ services: { app: {} } }\n", Unmergeable::Form),
        ] {
            assert_eq!(merged(old), Err(why), "{old}");
        }
    }

    /// As both generations of Compose print it.
    const PRINTED: &str = "name: shop\nservices:\n  app:\n    environment:\n      image: no\n    image: a:v1\n    networks:\n      default: null\n  db:\n    image: 'postgres:15.3'\nvolumes:\n  x: {}\n";

    #[test]
    fn the_image_is_found_in_what_compose_prints_and_compared_apart() {
        assert_eq!(image_in(PRINTED, "app").as_deref(), Some("a:v1"));
        assert_eq!(image_in(PRINTED, "db").as_deref(), Some("postgres:15.3"));
        assert_eq!(image_in(PRINTED, "other"), None);
        assert_eq!(image_in("services:\n  app:\n    build: {}\n", "app"), None);
        let pinned = PRINTED.replace("image: a:v1", "image: a:v2@sha256:ff");
        assert!(differ_by_image_only(PRINTED, &pinned, &["app"]));
        assert!(!differ_by_image_only(PRINTED, &pinned, &["db"]));
        assert!(!differ_by_image_only(PRINTED, &pinned.replace("15.3", "16.1"), &["app"]));
        assert!(!differ_by_image_only(
            PRINTED,
            &pinned.replace("image: no", "image: yes"),
            &["app"]
        ));
    }

    #[test]
    fn the_order_of_a_list_is_no_difference_and_what_is_in_it_is() {
        let listed = |items: &str| {
            format!(
                "services:\n  app:\n    image: a:v1\n    volumes:\n{items}  db:\n    ports: []\n"
            )
        };
        let one =
            listed("    - /usr:/usr:ro\n    - source: x\n      type: volume\n    - /a:/b:rw\n");
        let other =
            listed("    - /a:/b:rw\n    - source: x\n      type: volume\n    - /usr:/usr:ro\n");
        assert!(differ_by_image_only(&one, &other, &["app"]));
        for changed in [
            other.replace("/a:/b:rw", "/a:/b:ro"),
            other.replace("type: volume", "type: bind"),
            other.replace("    - /a:/b:rw\n", ""),
            other.replace("      type: volume\n", "") + "      type: volume\n",
        ] {
            assert!(!differ_by_image_only(&one, &changed, &["app"]), "{changed}");
        }
    }
}
