//! The last reload: when, what came of it, findings with their source lines, what changed.

use super::html::Html;
use crate::{admin::Reload, site::Site};

pub(super) fn section(out: &mut Html, last: Option<&Reload>, site: &Site) {
    out.put(
        "<section id=\"reload\" aria-labelledby=\"h-reload\">\n<h2 id=\"h-reload\">Last reload</h2>\n",
        &[],
    );
    if let Some(last) = last {
        let class = if last.result == "refused" { "down" } else { "up" };
        out.put(
            "<p><b class=\"st {}\">{}</b> <time datetime=\"{}\">{}</time> ({})</p>\n",
            &[&class, &last.result, &last.at, &last.at, &last.asked],
        );
        if last.result == "refused" {
            out.put(
                "<p>The site of before goes on serving. {}</p>\n",
                &[&last.error.as_deref().unwrap_or("")],
            );
        }
        if !last.changes.is_empty() {
            out.put("<ul>\n", &[]);
        }
        for it in &last.changes {
            let names = it.names.join(" ");
            out.put(
                "<li>{}: {} added, {} removed, {} changed <small>{}</small></li>\n",
                &[&it.what, &it.added, &it.removed, &it.changed, &names],
            );
        }
        if !last.changes.is_empty() {
            out.put("</ul>\n", &[]);
        }
        if last.text.is_empty() {
            out.put("<p>No findings.</p>\n", &[]);
        } else {
            // It scrolls by itself, so it takes the keyboard.
            out.put(
                "<pre tabindex=\"0\" role=\"region\" aria-label=\"Findings\">{}</pre>\n",
                &[&last.text],
            );
        }
    }
    let short = site.fingerprint.get(..12).unwrap_or(&site.fingerprint);
    out.put("<p><small>Site {}</small></p>\n</section>\n", &[&short]);
}
