//! The latest events, the newest first.

use super::html::Html;
use crate::events::{Events, Severity};

/// How many are shown.
const SHOWN: usize = 50;

pub(super) fn section(out: &mut Html, events: &Events) {
    let latest = events.latest(SHOWN);
    out.put(
        "<section id=\"events\" aria-labelledby=\"h-events\">\n<h2 id=\"h-events\">Latest events</h2>\n\
         <ul class=\"events\" data-last=\"{}\">\n",
        // What the script goes on from.
        &[&latest.last().map_or_else(|| events.last(), |last| last.id)],
    );
    for event in latest.iter().rev() {
        let class = match event.severity {
            Severity::Info => "up",
            Severity::Warning => "drain",
            Severity::Error => "down",
        };
        let time = humantime::format_rfc3339_seconds(event.time);
        out.put(
            "<li><time datetime=\"{}\">{}</time> <b class=\"st {}\">{}</b> {}</li>\n",
            &[&time, &time, &class, &event.code, &event.text],
        );
    }
    if latest.is_empty() {
        out.put("<li class=\"none\">None since Frontgate was started.</li>\n", &[]);
    }
    out.put("</ul>\n</section>\n", &[]);
}
