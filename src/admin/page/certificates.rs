//! Certificates by days left.

use std::time::SystemTime;

use super::html::Html;
use crate::{admin::Certificates, site::Site};

/// Most rows of the page.
const MOST: usize = 500;

/// Names of one certificate that are told.
const NAMES: usize = 12;

pub(super) fn section(out: &mut Html, site: &Site, now: SystemTime) {
    let certificates = Certificates::of(site, now).certificates;
    out.put(
        "<section id=\"certificates\" aria-labelledby=\"h-certificates\">\n\
         <h2 id=\"h-certificates\">Certificates</h2>\n<table class=\"certificates\">\n\
         <caption>The one that ends first before the others</caption>\n<thead><tr>\
         <th scope=\"col\">Names</th><th scope=\"col\">Days left</th><th scope=\"col\">Ends</th>\
         <th scope=\"col\">Issuer</th><th scope=\"col\">Configured</th></tr></thead>\n<tbody>\n",
        &[],
    );
    for it in certificates.iter().take(MOST) {
        let class = match it.days_left {
            ..3 => "down",
            3..30 => "drain",
            _ => "up",
        };
        let mut names = it.names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
        if it.names.len() > NAMES {
            names += &format!(" and {} more", it.names.len() - NAMES);
        }
        let default = if it.default { ", default" } else { "" };
        let day = it.not_after.split('T').next().unwrap_or_default();
        out.put(
            "<tr><th scope=\"row\">{} <small>{}{}</small></th><td><b class=\"st {}\">{}</b></td>\
             <td><time datetime=\"{}\">{}</time></td><td>{}</td><td><small>{}:{}</small></td></tr>\n",
            &[
                &names,
                &it.key,
                &default,
                &class,
                &it.days_left,
                &it.not_after,
                &day,
                &it.issuer,
                &it.file,
                &it.line,
            ],
        );
    }
    out.put("</tbody>\n</table>\n", &[]);
    if let Some(more) = certificates.len().checked_sub(MOST).filter(|more| *more > 0) {
        out.put("<p class=\"hint\">and {} more, which end later</p>\n", &[&more]);
    }
    out.put("</section>\n", &[]);
}
