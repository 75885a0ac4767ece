//! The Helm chart's values on docs/kubernetes.md, made from `values.yaml`: a comment is the
//! description of the value below it.

use std::fmt::Write as _;

/// A value, with the path to it.
#[derive(Debug, PartialEq)]
struct Row {
    path: String,
    default: String,
    description: String,
}

/// The table of the values. Of YAML, two spaces for each level and a value on the key's line are
/// understood, which is all that the file has; what lies below a described key is its default.
pub(crate) fn table(values: &str) -> String {
    let mut table = "| value | default | |\n| --- | --- | --- |\n".to_owned();
    for row in rows(values) {
        let Row {
            path,
            default,
            description,
        } = row;
        let _ = writeln!(table, "| `{path}` | `{default}` | {description} |");
    }
    table
}

fn rows(values: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut parents: Vec<&str> = Vec::new();
    let mut description: Vec<&str> = Vec::new();
    // How deep a described key without a value on its line is.
    let mut described: Option<usize> = None;
    for line in values.lines() {
        let text = line.trim_start();
        let level = (line.len() - text.len()) / 2;
        if let Some(comment) = text.strip_prefix('#') {
            description.push(comment.trim());
            continue;
        }
        if text.is_empty() {
            description.clear();
            continue;
        }
        if described.is_some_and(|above| level > above) {
            if let Some(row) = rows.last_mut() {
                let space = if row.default.is_empty() { "" } else { " " };
                let _ = write!(row.default, "{space}{}", text);
            }
            continue;
        }
        described = None;
        let Some((key, value)) = text.split_once(':') else {
            continue;
        };
        parents.truncate(level);
        parents.push(key);
        if description.is_empty() {
            continue;
        }
        rows.push(Row {
            path: parents.join("."),
            default: value.trim().to_owned(),
            description: description.join(" ").trim_end_matches('.').to_owned(),
        });
        description.clear();
        if value.trim().is_empty() {
            described = Some(level);
        }
    }
    rows
}

/// Keys of `values.yaml` that no comment describes.
pub(crate) fn undescribed(values: &str) -> Vec<String> {
    let mut above = "";
    let mut described = None;
    let mut wrong = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        let level = line.len() - text.len();
        let is_value = text.contains(':') && !text.ends_with(':') && !text.starts_with('#');
        if described.is_none_or(|below| level <= below) {
            let has_comment = above.trim_start().starts_with('#');
            if is_value && !has_comment {
                wrong.push(format!("values.yaml: {text} is not described"));
            }
            described =
                (has_comment && text.ends_with(':') && !text.starts_with('#')).then_some(level);
        }
        above = line;
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::{table, undescribed};

    const VALUES: &str = "\
# About the file.

a:
  # Is b.
  b: \"\"
  c:
    # Is d,
    # of two lines.
    d: 1
# Holds what is below.
e:
  f: 2
  g:
    - h
";

    #[test]
    fn values_are_listed_with_their_paths() {
        let rows = "\
| value | default | |
| --- | --- | --- |
| `a.b` | `\"\"` | Is b |
| `a.c.d` | `1` | Is d, of two lines |
| `e` | `f: 2 g: - h` | Holds what is below |
";
        assert_eq!(table(VALUES), rows);
        assert!(undescribed(VALUES).is_empty(), "{:?}", undescribed(VALUES));
        assert_eq!(undescribed("a:\n  b: 1\n").len(), 1);
    }
}
