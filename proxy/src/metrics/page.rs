//! The forms of the page: families, samples, escaping. Which one is written, the scraper says.
//!
//! All of them say the same: only the protobuf form has native histograms beside the classic buckets, because the
//! others have no way to say them. So the numbers are written by one walk, each form as it goes, and nothing is kept
//! but one family.

use http::HeaderMap;
use http::header::ACCEPT;
use prost::Message as _;

use super::exposition::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType, Number};
use super::latency::{Latency, SCHEMA, ZERO_THRESHOLD_S};

/// The type of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Counter,
    Gauge,
    Histogram,
}

/// A form of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Prometheus' own text, for whoever asks for nothing.
    #[default]
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Length-delimited messages, the only form with native histograms.
    Protobuf,
}

impl Form {
    /// The media type of the page in this form.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// What a scraper likes best (RFC 9110 section 12.5.1); of what it likes the same, what it names first. Text where it
    /// names nothing that there is: a page that is not asked for is of more use than none.
    pub fn wanted(headers: &HeaderMap) -> Self {
        let lines = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|line| line.to_str().ok());
        let ranges = lines.flat_map(|line| line.split(','));
        let mut best = (0.0, Self::Text);
        for (quality, form) in ranges.filter_map(offered) {
            if quality > best.0 {
                best = (quality, form);
            }
        }
        best.1
    }
}

/// How much a range of an `Accept` likes a form, if it means one.
fn offered(range: &str) -> Option<(f64, Form)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let mut quality = 1.0;
    let [mut version, mut proto, mut encoding] = [None; 3];
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q))?,
            "version" => version = Some(value),
            "proto" => proto = Some(value),
            "encoding" => encoding = Some(value),
            _ => {}
        }
    }
    let form = match media.as_str() {
        "text/plain" if matches!(version, None | Some("0.0.4")) => Form::Text,
        "text/*" | "*/*" => Form::Text,
        "application/openmetrics-text" if matches!(version, None | Some("1.0.0" | "0.0.1")) => {
            Form::OpenMetrics
        }
        "application/vnd.google.protobuf"
            if proto == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited") =>
        {
            Form::Protobuf
        }
        _ => return None,
    };
    Some((quality, form))
}

/// A page that grows family by family. All samples of a family stand together, as the formats demand.
#[derive(Debug, Default)]
pub(super) struct Page {
    form: Form,
    bytes: Vec<u8>,
    name: &'static str,
    kind: Kind,
    /// Of the protobuf form: the family at hand.
    family: Option<MetricFamily>,
}

impl Page {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            ..Self::default()
        }
    }

    /// Starts a family; its samples follow. The header is written even if none do, so that the page names everything
    /// it can show.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        (self.name, self.kind) = (name, kind);
        if self.form == Form::Protobuf {
            self.end_family();
            let kind = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            self.family = Some(MetricFamily {
                name: Some(name.to_owned()),
                help: Some(help.to_owned()),
                kind: Some(kind.into()),
                metric: Vec::new(),
            });
            return;
        }
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // In OpenMetrics a counter's name ends where its samples' goes on.
        let name = match self.form {
            Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Form::Text | Form::Protobuf => name,
        };
        self.text(&format!("# HELP {name} {help}\n# TYPE {name} {word}\n"));
    }

    /// A sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        // An empty sum is -0, which plus 0 is 0.
        let value = value + 0.0;
        let Some(family) = &mut self.family else {
            return self.line("", labels, None, value);
        };
        let number = Some(Number { value: Some(value) });
        let (gauge, counter) = match self.kind {
            Kind::Counter => (None, number),
            Kind::Gauge | Kind::Histogram => (number, None),
        };
        family.metric.push(Metric {
            label: pairs(labels),
            gauge,
            counter,
            histogram: None,
        });
    }

    /// A histogram of the family.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], latency: &Latency) {
        if let Some(family) = &mut self.family {
            family.metric.push(Metric {
                label: pairs(labels),
                gauge: None,
                counter: None,
                histogram: Some(histogram(latency)),
            });
            return;
        }
        for (bound, below) in latency.cumulative() {
            // With a point in it, in every form: a bound that is written in two ways is two series.
            self.line("_bucket", labels, Some(&format!("{bound:?}")), below as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), latency.count as f64);
        self.line("_sum", labels, None, latency.sum_s + 0.0);
        self.line("_count", labels, None, latency.count as f64);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_family();
        if self.form == Form::OpenMetrics {
            self.text("# EOF\n");
        }
        self.bytes
    }

    fn end_family(&mut self) {
        // A family without samples is none to a reader of protobuf.
        if let Some(family) = self.family.take().filter(|family| !family.metric.is_empty()) {
            // There is always room in a vector.
            let _ = family.encode_length_delimited(&mut self.bytes);
        }
    }

    /// A line of text, of a part of the family: `_bucket`, `_sum`, `_count`.
    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: f64) {
        self.text(self.name);
        self.text(suffix);
        let bound = bound.map(|bound| ("le", bound));
        for (at, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            self.text(if at == 0 { "{" } else { "," });
            self.text(name);
            self.text("=\"");
            self.escape(value);
            self.text("\"");
        }
        if !labels.is_empty() || bound.is_some() {
            self.text("}");
        }
        self.text(" ");
        match value {
            f64::INFINITY => self.text("+Inf"),
            f64::NEG_INFINITY => self.text("-Inf"),
            // Rust writes NaN as the format wants it, and numbers without an exponent.
            _ => self.text(&value.to_string()),
        }
        self.text("\n");
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn escape(&mut self, value: &str) {
        for byte in value.bytes() {
            match byte {
                b'\\' => self.text("\\\\"),
                b'"' => self.text("\\\""),
                b'\n' => self.text("\\n"),
                _ => self.bytes.push(byte),
            }
        }
    }
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| LabelPair {
        name: Some((*name).to_owned()),
        value: Some((*value).to_owned()),
    };
    labels.iter().map(pair).collect()
}

fn histogram(latency: &Latency) -> Histogram {
    let (positive_span, positive_delta) = latency.spans();
    let bucket = |(bound, below): (f64, u64)| Bucket {
        cumulative_count: Some(below),
        upper_bound: Some(bound),
    };
    Histogram {
        sample_count: Some(latency.count),
        sample_sum: Some(latency.sum_s + 0.0),
        bucket: latency.cumulative().map(bucket).collect(),
        schema: Some(SCHEMA),
        zero_threshold: Some(ZERO_THRESHOLD_S),
        zero_count: Some(latency.zeros),
        positive_span,
        positive_delta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;
    use std::time::Duration;

    fn text(form: Form, write: impl FnOnce(&mut Page)) -> String {
        let mut page = Page::new(form);
        write(&mut page);
        String::from_utf8(page.finish()).unwrap()
    }

    #[test]
    fn labels_and_numbers_are_written_as_the_format_wants_them() {
        let page = text(Form::Text, |page| {
            page.family("x_seconds", Kind::Gauge, "Help.");
            page.sample(&[("a", "\\ \" \n"), ("b", "ü")], f64::INFINITY);
            for value in [f64::NAN, -0.0, 1e17, 0.25] {
                page.sample(&[], value);
            }
        });
        let expected = "# HELP x_seconds Help.\n# TYPE x_seconds gauge\n\
            x_seconds{a=\"\\\\ \\\" \\n\",b=\"ü\"} +Inf\n\
            x_seconds NaN\nx_seconds 0\nx_seconds 100000000000000000\nx_seconds 0.25\n";
        assert_eq!(page, expected);
    }

    #[test]
    fn openmetrics_names_a_counter_without_its_end_and_says_where_the_page_ends() {
        let page = text(Form::OpenMetrics, |page| {
            page.family("x_total", Kind::Counter, "Help.");
            page.sample(&[], 2.0);
        });
        assert_eq!(page, "# HELP x Help.\n# TYPE x counter\nx_total 2\n# EOF\n");
    }

    #[test]
    fn a_histogram_says_the_same_in_text_and_in_protobuf() {
        let mut tally = Tally::default();
        for ms in [1, 1, 40] {
            tally.answered(200, Some(Duration::from_millis(ms)));
        }
        let latency = Latency::of(&tally);
        let write = |page: &mut Page| {
            page.family("x_seconds", Kind::Histogram, "Help.");
            page.histogram(&[("a", "b")], &latency);
        };
        let page = text(Form::Text, write);
        for line in [
            "_bucket{a=\"b\",le=\"0.0025\"} 2",
            "_bucket{a=\"b\",le=\"1.0\"} 3",
            "_count{a=\"b\"} 3",
        ] {
            assert!(page.contains(&format!("x_seconds{line}\n")), "{line}: {page}");
        }
        let mut page = Page::new(Form::Protobuf);
        write(&mut page);
        let family = MetricFamily::decode_length_delimited(&page.finish()[..]).unwrap();
        let histogram = family.metric[0].histogram.as_ref().unwrap();
        assert_eq!(
            (histogram.sample_count, histogram.bucket[1].cumulative_count),
            (Some(3), Some(2))
        );
        // Two in one bucket, and one in another, five octaves above.
        assert_eq!(
            (histogram.positive_span.len(), &histogram.positive_delta[..]),
            (2, &[2, -1][..])
        );
    }

    #[test]
    fn a_scraper_gets_what_it_likes_best() {
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let open = "application/openmetrics-text;version=1.0.0";
        for (accept, form) in [
            ("", Form::Text),
            ("*/*", Form::Text),
            ("text/html", Form::Text),
            // Prometheus 2.42 without and with native histograms, and 3.
            (
                &format!(
                    "{open},application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                Form::OpenMetrics,
            ),
            (
                &format!("{protobuf},{open};q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
                Form::Protobuf,
            ),
            (
                &format!(
                    "{protobuf};q=0.6,{open};escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2"
                ),
                Form::Protobuf,
            ),
            (&format!("{open};q=0.1, text/plain"), Form::Text),
            (&format!("{open};q=0"), Form::Text),
            (&format!("{open};q=nan"), Form::Text),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Form::Text,
            ),
            ("application/vnd.google.protobuf", Form::Text),
            ("application/openmetrics-text;version=2.0.0", Form::Text),
        ] {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(Form::wanted(&headers), form, "{accept}");
        }
    }
}
