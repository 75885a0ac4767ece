//! The older text format of Prometheus (version 0.0.4), for clients that do not ask for OpenMetrics.

/// `openmetrics` in the older format: there the family of a counter or an info is named as its
/// samples are, an info is a gauge, and there are neither units nor an end.
pub(super) fn plain(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // Of the families, each of which has its HELP before its TYPE.
    let mut help = "";
    for line in openmetrics.lines() {
        if line.starts_with("# HELP ") {
            help = line;
            continue;
        }
        let Some(family) = line.strip_prefix("# TYPE ") else {
            if !line.starts_with("# UNIT ") && line != "# EOF" {
                text.extend([line, "\n"]);
            }
            continue;
        };
        let (name, kind) = family.split_once(' ').unwrap_or((family, "untyped"));
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            kind => ("", kind),
        };
        let meaning = help
            .strip_prefix("# HELP ")
            .and_then(|help| help.strip_prefix(name))
            .unwrap_or_default();
        text.push_str(&format!("# HELP {name}{suffix}{meaning}\n"));
        text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn families_are_named_as_their_samples() {
        let openmetrics = "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
                           a_bytes_total 7\n# HELP b Program.\n# TYPE b info\nb_info{x=\"y\"} 1\n\
                           # HELP c Gauge.\n# TYPE c gauge\nc 1\n# EOF\n";
        let expected = "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\n\
                        a_bytes_total 7\n# HELP b_info Program.\n# TYPE b_info gauge\n\
                        b_info{x=\"y\"} 1\n# HELP c Gauge.\n# TYPE c gauge\nc 1\n";
        assert_eq!(plain(openmetrics), expected);
    }
}
