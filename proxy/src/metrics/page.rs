//! The text format itself: families, samples, escaping.

/// The type of a metric.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page that grows family by family. All samples of a family stand together, as the format demands.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// Starts a family; its samples follow. The header is written even if none do, so that the page names everything
    /// it can show.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        self.text
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.part("", labels, value);
    }

    /// A sample of a part of the family: `_bucket`, `_sum`, `_count`.
    pub(super) fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.escape(value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.text.push(' ');
        match value {
            f64::INFINITY => self.text.push_str("+Inf"),
            f64::NEG_INFINITY => self.text.push_str("-Inf"),
            // Rust writes NaN as the format wants it, and numbers without an exponent.
            // An empty sum is -0, which plus 0 is 0.
            _ => self.text.push_str(&(value + 0.0).to_string()),
        }
        self.text.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn escape(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                _ => self.text.push(character),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_numbers_are_written_as_the_format_wants_them() {
        let mut page = Page::default();
        page.family("x_seconds", Kind::Histogram, "Help.");
        page.part("_bucket", &[("a", "\\ \" \n"), ("le", "+Inf")], f64::INFINITY);
        page.sample(&[], f64::NAN);
        page.sample(&[], -0.0);
        page.sample(&[], 1e17);
        page.sample(&[], 0.25);
        let expected = "# HELP x_seconds Help.\n# TYPE x_seconds histogram\n\
            x_seconds_bucket{a=\"\\\\ \\\" \\n\",le=\"+Inf\"} +Inf\n\
            x_seconds NaN\nx_seconds 0\nx_seconds 100000000000000000\nx_seconds 0.25\n";
        assert_eq!(page.finish(), expected);
    }
}
