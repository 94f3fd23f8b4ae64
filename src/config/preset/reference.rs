//! The tables of `docs/presets.md` are what the presets expand to.

use std::{fmt::Write as _, fs, path::Path};

use serde_yaml::Value as Yaml;

use super::{
    WORDS,
    tests::{farm, shown},
};
use crate::config::golden;

const PAGE: &str = "docs/presets.md";
const BEGIN: &str = "<!-- table: FRONTGATE_BLESS=1 cargo test --lib config::preset writes it -->\n";
const END: &str = "<!-- end of table -->\n";

/// A list in one cell of a table.
fn cell(value: &Yaml) -> String {
    match value {
        Yaml::Sequence(items) if !items.is_empty() => {
            let items = items.iter().filter_map(Yaml::as_str);
            items.map(|item| format!("`{item}`")).collect::<Vec<_>>().join(" ")
        }
        _ => "–".to_string(),
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or("–".to_string(), |bytes| format!("{} MiB", bytes >> 20))
}

fn table() -> String {
    let mut table = String::from(
        "| preset | ports | timeout | probe | request body | denied | plain http |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut hidden: Vec<(String, Vec<&str>)> = Vec::new();
    for word in WORDS {
        let (farm, findings) = farm(&format!("preset: {word}\nservers: [s]\n"));
        assert!(findings.is_empty());
        let settings = farm.preset.settings();
        let probe = settings.probe.map_or("–".to_string(), |page| {
            let (from, to) = page.status;
            let status = if from == to { from.to_string() } else { format!("{from}–{to}") };
            let body = page.body.map_or(String::new(), |body| format!(", `{body}` in it"));
            format!("`{}`, {status}{body}", page.path)
        });
        let show = |key: &str| serde_yaml::from_str::<Yaml>(&shown(&farm, key)).unwrap();
        writeln!(
            table,
            "| `{word}` | {}/{} | {} | {probe} | {}{} | {} | {} |",
            settings.https,
            settings.http,
            shown(&farm, "timeout").trim_end(),
            size(settings.body_size),
            if settings.trickles { ", may trickle" } else { "" },
            cell(&show("deny_paths")),
            match cell(&show("plain_paths")) {
                all if all == "–" => "all".to_string(),
                some => some,
            },
        )
        .unwrap();
        let headers = cell(&show("hide_headers"));
        match hidden.iter_mut().find(|(known, _)| *known == headers) {
            Some((_, presets)) => presets.push(word),
            None => hidden.push((headers, vec![word])),
        }
    }
    table.push_str("\n| presets | response headers that clients do not see |\n|---|---|\n");
    for (headers, presets) in hidden {
        let presets: Vec<_> = presets.iter().map(|word| format!("`{word}`")).collect();
        writeln!(table, "| {} | {headers} |", presets.join(" ")).unwrap();
    }
    table
}

#[test]
fn the_page_about_presets_is_current() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    golden::check(PAGE, &format!("{before}{BEGIN}\n{}\n{END}{after}", table()));
}
