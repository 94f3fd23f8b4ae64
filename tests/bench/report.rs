//! The results: as a table, as JSON, and as a picture.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::peers::Kind;

/// One kind of work: figures of each proxy, one a round. Less is better.
pub struct Row {
    /// Stable key in JSON.
    pub key: &'static str,
    pub work: &'static str,
    pub unit: &'static str,
    figures: Vec<(Kind, Vec<f64>)>,
}

impl Row {
    /// Nothing was measured yet.
    pub fn new(key: &'static str, work: &'static str, unit: &'static str) -> Self {
        Self { key, work, unit, figures: Kind::ALL.map(|kind| (kind, Vec::new())).to_vec() }
    }

    /// What a round of a proxy came to.
    pub fn add(&mut self, kind: Kind, figure: f64) {
        let of = self.figures.iter_mut().find(|(of, _)| *of == kind);
        of.unwrap().1.push(figure);
    }

    fn of(&self, kind: Kind) -> Option<&[f64]> {
        self.figures.iter().find(|(of, _)| *of == kind).map(|(_, figures)| &**figures)
    }

    /// The median of the better of the others.
    fn best(&self) -> f64 {
        let others = [Kind::Nginx, Kind::HaProxy].into_iter().filter_map(|kind| self.of(kind));
        others.map(median).fold(f64::INFINITY, f64::min)
    }

    /// Frontgate's median against the better of the others.
    fn ratio(&self) -> Option<f64> {
        let (ours, best) = (median(self.of(Kind::Frontgate)?), self.best());
        (best.is_finite() && best > 0.0).then(|| ours / best)
    }
}

pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Half the way between the smallest and the largest, in percent of the median.
fn spread(figures: &[f64]) -> f64 {
    let smallest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if smallest == largest {
        return 0.0;
    }
    (largest - smallest) / 2.0 / median(figures) * 100.0
}

/// What was measured, and on what.
pub struct Report {
    pub machine: String,
    pub versions: Vec<(Kind, String)>,
    pub rows: Vec<Row>,
    /// Figures that only Frontgate has: key, what it is, figure, unit.
    pub own: Vec<(&'static str, String, f64, &'static str)>,
}

impl Report {
    pub fn table(&self) -> String {
        let mut out = String::from("| work | unit |");
        for (kind, version) in &self.versions {
            let _ = write!(out, " {} {version} |", kind.name());
        }
        out += " ratio to the better peer |\n|---|---|";
        out += &"---:|".repeat(self.versions.len());
        out += "---:|\n";
        for row in &self.rows {
            let _ = write!(out, "| {} | {} |", row.work, row.unit);
            for (kind, _) in &self.versions {
                let _ = match row.of(*kind) {
                    Some(figures) => {
                        write!(out, " {:.1} ± {:.0} % |", median(figures), spread(figures))
                    }
                    None => write!(out, " |"),
                };
            }
            let _ = match row.ratio() {
                Some(ratio) => writeln!(out, " {ratio:.2} |"),
                None => writeln!(out, " |"),
            };
        }
        if !self.own.is_empty() {
            out += "\n| Frontgate alone | figure |\n|---|---:|\n";
            for (_, what, figure, unit) in &self.own {
                let _ = writeln!(out, "| {what} | {figure:.1} {unit} |");
            }
        }
        let _ = write!(
            out,
            "\nMeasured on {}. Median and half the range of the rounds.\n",
            self.machine
        );
        out
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = row.figures.iter().map(|(kind, all)| (kind.name().to_owned(), json!(all)));
            let figures: serde_json::Map<_, _> = figures.collect();
            let (key, work, unit) = (row.key, row.work, row.unit);
            json!({ "key": key, "work": work, "unit": unit, "ratio": row.ratio(), "rounds": figures })
        });
        let own = self.own.iter().map(|(key, what, figure, unit)| {
            json!({ "key": key, "work": what, "unit": unit, "figure": figure })
        });
        let versions =
            self.versions.iter().map(|(kind, version)| (kind.name().to_owned(), json!(version)));
        let versions: serde_json::Map<_, _> = versions.collect();
        let (rows, own): (Vec<_>, Vec<_>) = (rows.collect(), own.collect());
        json!({ "machine": self.machine, "versions": versions, "rows": rows, "own": own })
    }

    /// Bars: every proxy's median against the better of the two peers.
    pub fn picture(&self) -> String {
        let rows: Vec<_> = self.rows.iter().filter(|row| row.ratio().is_some()).collect();
        let (left, width, line) = (330.0, 420.0, 22.0);
        let height = 60.0 + rows.len() as f64 * (line * 3.0 + 16.0);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 {height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
             <style>text {{ fill: #24292f }} @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} }} \
             text.inside {{ fill: #ffffff }}</style>\n\
             <text x=\"10\" y=\"22\" font-size=\"16\" font-weight=\"600\">Cost beside the better of nginx and HAProxy (shorter is better)</text>\n"
        );
        let mut y = 46.0;
        for row in rows {
            let best = row.best();
            let _ = writeln!(out, "<text x=\"10\" y=\"{}\">{}</text>", y + line * 1.7, row.work);
            for (kind, color) in
                [(Kind::Frontgate, "#0a7d5a"), (Kind::Nginx, "#6e7781"), (Kind::HaProxy, "#424a53")]
            {
                let Some(figures) = row.of(kind) else { continue };
                let figure = median(figures);
                // Twice the better peer fills the width.
                let bar = (figure / best / 2.0).min(1.0) * width;
                let (at, class) = match bar > 250.0 {
                    true => (left + 6.0, " class=\"inside\""),
                    false => (left + bar + 6.0, ""),
                };
                let _ = writeln!(
                    out,
                    "<rect x=\"{left}\" y=\"{y}\" width=\"{bar:.0}\" height=\"{}\" fill=\"{color}\" rx=\"2\"/>\
                     <text x=\"{at:.0}\" y=\"{}\" font-size=\"11\"{class}>{} {figure:.1} {}</text>",
                    line - 4.0,
                    y + 13.0,
                    kind.name(),
                    row.unit
                );
                y += line;
            }
            y += 16.0;
        }
        out + "</svg>\n"
    }

    /// `benchmark.md`, `benchmark.json`, `benchmark.svg`.
    pub fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        let text = format!(
            "# Measured\n\nMade by `make bench`; what each line means and what was done about it is in \
             [performance.md](performance.md).\n\n{}",
            self.table()
        );
        std::fs::write(dir.join("benchmark.md"), text).unwrap();
        let json = serde_json::to_string_pretty(&self.json()).unwrap() + "\n";
        std::fs::write(dir.join("benchmark.json"), json).unwrap();
        std::fs::write(dir.join("benchmark.svg"), self.picture()).unwrap();
    }
}
