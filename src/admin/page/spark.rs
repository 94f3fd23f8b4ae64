//! Sparklines: requests and failures of the last minutes as one small picture.

use std::fmt::Write;

use super::html::Html;
use crate::admin::history::{KEPT, Note, TICK};

/// Width of one note and height of the picture.
const STEP: usize = 3;
const HEIGHT: u64 = 24;

/// Writes the picture; its numbers are beside it, for whoever cannot see it and for the script.
pub(super) fn draw(out: &mut Html, notes: &[Note]) {
    let sum = |of: fn(&Note) -> u64| notes.iter().map(of).sum::<u64>();
    let highest = notes.iter().map(|note| note.0).max().unwrap_or(0).max(1);
    let minutes = KEPT as u64 * TICK.as_secs() / 60;
    out.put(
        "<svg class=\"spark\" role=\"img\" width=\"108\" height=\"24\" viewBox=\"0 0 108 24\" \
         aria-label=\"{} requests, {} failed in {} minutes\" data-n=\"{}\">\
         <path class=\"r\" d=\"{}\"/><path class=\"f\" d=\"{}\"/></svg>",
        &[
            &sum(|note| note.0),
            &sum(|note| note.1),
            &minutes,
            &numbers(notes),
            &bars(notes, |note| note.0, highest),
            &bars(notes, |note| note.1, highest),
        ],
    );
}

/// `requests.failures` of each note; failures that are zero left out.
fn numbers(notes: &[Note]) -> String {
    let one = |(requests, failures): &Note| match failures {
        0 => requests.to_string(),
        _ => format!("{requests}.{failures}"),
    };
    notes.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// One path of bars, the newest at the right.
fn bars(notes: &[Note], of: fn(&Note) -> u64, highest: u64) -> String {
    let mut path = String::new();
    let first = KEPT - notes.len().min(KEPT);
    for (n, note) in notes.iter().enumerate() {
        let height = (of(note) * HEIGHT).div_ceil(highest).min(HEIGHT);
        if height > 0 {
            let (x, y) = ((first + n) * STEP, HEIGHT - height);
            let _ = write!(path, "M{x} {y}h2v{height}h-2z");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_the_highest() {
        let notes = [(0, 0), (5, 1), (10, 0)];
        assert_eq!(bars(&notes, |n| n.0, 10), "M102 12h2v12h-2zM105 0h2v24h-2z");
        assert_eq!(bars(&notes, |n| n.1, 10), "M102 21h2v3h-2z");
        assert_eq!(numbers(&notes), "0 5.1 10");
        assert_eq!(bars(&[], |n| n.0, 1), "");
    }
}
