//! Latencies in the text form of HdrHistogram's percentile distributions (`.hgrm`), which its plotters read.
//!
//! Written by iteration, as hdrhistogram's Java original does (`outputPercentileDistribution`): five steps per halving of
//! what is left, values in milliseconds.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Steps from one percentile to the one half as far from 100.
const STEPS_PER_HALVING: u32 = 5;

/// Values of the histogram are microseconds, those of the text milliseconds.
const US_PER_MS: f64 = 1e3;

/// The whole file.
pub fn text(latency: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut seen = 0;
    // Writing to a string cannot fail.
    for step in latency.iter_quantiles(STEPS_PER_HALVING) {
        let part = step.quantile_iterated_to();
        let value = step.value_iterated_to().min(latency.max()) as f64 / US_PER_MS;
        seen += step.count_since_last_iteration();
        let _ = write!(text, "{value:>12.3} {part:>2.12} {seen:>10}");
        let _ = if part < 1.0 {
            writeln!(text, " {:>14.2}", 1.0 / (1.0 - part))
        } else {
            writeln!(text)
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        latency.mean() / US_PER_MS,
        latency.stdev() / US_PER_MS,
    );
    let _ = writeln!(
        text,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        latency.max() as f64 / US_PER_MS,
        latency.len(),
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        latency.buckets(),
        sub_buckets(latency.sigfig()),
    );
    text
}

/// Linear steps within a bucket: the power of two that has twice the resolution of so many digits.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(digits.into())).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_plotters_read() {
        let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        for us in 1..=1_000 {
            latency.record(us * 10).unwrap();
        }
        let text = text(&latency);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(lines[1], "");
        let rows: Vec<Vec<f64>> = lines[2..]
            .iter()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(rows.len() > 30, "{}", rows.len());
        for row in &rows[..rows.len() - 1] {
            // Value in ms, part, how many were not above, and the scale of the plotters' axis.
            assert_eq!(row.len(), 4);
            assert!((row[0] - row[2] / 100.0).abs() < 0.02, "{row:?}");
            assert!(row[2] / 1_000.0 >= row[1] - 1e-9);
            assert!((row[3] - 1.0 / (1.0 - row[1])).abs() < 0.01 * row[3], "{row:?}");
        }
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        // A histogram names the end of the bucket that the highest value is in.
        assert_eq!(rows.last().unwrap(), &[10.007, 1.0, 1_000.0]);
        assert_eq!(
            lines[lines.len() - 3],
            "#[Mean    =        5.006, StdDeviation   =        2.887]"
        );
        assert_eq!(
            lines[lines.len() - 2],
            "#[Max     =       10.007, Total count    =         1000]"
        );
        assert!(lines[lines.len() - 1].starts_with("#[Buckets ="));
    }
}
