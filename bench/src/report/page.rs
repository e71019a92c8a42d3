//! The page around the sections: head, style, markers, and the few pieces that all sections use.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::look::SHAPES;

/// Colours, dashes, print. In a file of its own so that editors know what it is.
const STYLE: &str = include_str!("page.css");

/// The whole document.
pub(crate) fn page(summary: &Markup, sections: &[Markup]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Nothing on this page may load or run anything, whatever a result's text says.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { "foreshade-bench report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (markers())
                header { h1 { "foreshade" span { "-bench report" } } (summary) }
                main { @for section in sections { (section) } }
            }
        }
    }
}

/// The markers of all looks, once for all charts: as vertices of lines, and as ends of bars.
fn markers() -> Markup {
    html! {
        svg.hidden width="0" height="0" aria-hidden="true" {
            defs {
                @for (look, shape) in SHAPES.iter().enumerate() {
                    path id={ "m" (look) } d=(shape) {}
                    g id={ "s" (look) } { path.line d="M1 6h24" {} path d=(shape) transform="translate(13 6)" {} }
                    marker.{ "k" (look) } id={ "v" (look) } viewBox="-5 -5 10 10" markerWidth="9" markerHeight="9"
                        markerUnits="userSpaceOnUse" { path d=(shape) {} }
                }
                path id="off-left" d="M-1 0L6-4.5V4.5z" {}
                path id="off-right" d="M1 0L-6-4.5V4.5z" {}
            }
        }
    }
}

/// A contender's colour, dash and marker, to stand before its name.
pub(crate) fn swatch(look: usize) -> Markup {
    html! {
        svg.swatch.{ "k" (look) } aria-hidden="true" { use href={ "#s" (look) } {} }
    }
}

/// Who is who, for charts that follow.
pub(crate) fn legend(shown: &[(String, usize)]) -> Markup {
    html! { ul.legend { @for (name, look) in shown { li { (swatch(*look)) (name) } } } }
}

/// A table that may be wider than the screen scrolls by itself, and not the page.
pub(crate) fn scrolling(table: &Markup) -> Markup {
    html! { div.scrolling tabindex="0" { (table) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast of two colours, 1 to 21 (WCAG 2.2, "contrast ratio").
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |colour: &str| {
            let hex = colour.trim_start_matches('#');
            let wide: String = match hex.len() {
                3 => hex.chars().flat_map(|digit| [digit, digit]).collect(),
                _ => hex.to_owned(),
            };
            let channel = |at: usize| {
                let part = f64::from(u8::from_str_radix(&wide[at..at + 2], 16).unwrap()) / 255.0;
                if part <= 0.040_45 {
                    part / 12.92
                } else {
                    ((part + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_name_can_be_read_on_light_on_dark_and_on_paper() {
        let palettes: Vec<&str> = STYLE.split(":root {").skip(1).collect();
        assert_eq!(palettes.len(), 3);
        for palette in palettes {
            let (palette, _) = palette.split_once('}').unwrap();
            let colour = |name: &str| {
                let (_, rest) = palette.split_once(&format!("{name}: ")).expect(name);
                rest.split(';').next().unwrap().trim().to_owned()
            };
            let looks = (0..SHAPES.len()).map(|look| format!("--k{look}"));
            let texts = ["--ink", "--soft", "--good", "--bad", "--link"].map(str::to_owned);
            for name in texts.into_iter().chain(looks) {
                for ground in ["--paper", "--sheet", "--fault"] {
                    let found = contrast(&colour(&name), &colour(ground));
                    assert!(found >= 4.5, "{name} on {ground}: {found:.2}");
                }
            }
        }
    }

    #[test]
    fn every_look_has_its_colour_and_its_dash() {
        for look in 0..SHAPES.len() {
            assert!(
                STYLE.contains(&format!(".k{look} {{ --c: var(--k{look}); --dash: ")),
                "{look}"
            );
            assert!(STYLE.contains(&format!("--dots: url(#v{look});")), "{look}");
        }
    }
}
