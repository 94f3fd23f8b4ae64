//! The dashboard: one page that can be read without JavaScript and is live with it.

mod assets;
mod certificates;
mod events;
mod explain;
mod html;
mod names;
mod query;
mod reload;
mod servers;
mod sign_in;
mod spark;

use std::{sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::protocols::http::ServerSession;

use self::{
    assets::{ICON, SCRIPT, STYLE},
    html::Html,
    query::Query,
};
use super::{
    answer::{Answer, answer as whole, text},
    api::allows,
    app::Access,
    context::Context,
    guard,
    view::Servers,
};
use crate::forward::Live;

/// SECURITY: nothing but our own files, no frames, no other place for forms, and no inline script
/// that a name could smuggle in. `same-origin`: URLs that were asked about stay here, and forms
/// still tell their origin. Test: the_page_is_locked_down
const LOCKS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
         img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
];

/// Answers everything outside the API.
pub(super) async fn answer(
    session: &mut ServerSession,
    access: &Access,
    context: &Arc<Context>,
) -> Answer {
    let request = session.req_header();
    let path = request.uri.path();
    if path == sign_in::PATH {
        return sign_in::answer(session, access).await;
    }
    if let Err(problem) = allows(&request.method, &[Method::GET, Method::HEAD], "GET, HEAD") {
        return problem.answer();
    }
    if let Some(asset) = [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|it| it.path == path) {
        return asset.answer();
    }
    if path != "/" {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    if access.to_read && guard::may_read(&request.headers, &access.token).is_err() {
        return sign_in::page(StatusCode::UNAUTHORIZED, "");
    }
    let (query, asked) = (request.uri.query().unwrap_or_default().to_owned(), context.clone());
    context.desk.write(text, move || written(&asked, query.as_bytes())).await
}

/// The page; takes as long as the site is large.
pub(super) fn written(context: &Context, query: &[u8]) -> Answer {
    let query = Query::of(query);
    match context.live() {
        Some(live) => html(StatusCode::OK, dashboard(context, &live, &query, SystemTime::now())),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "Frontgate is still starting\n"),
    }
}

/// A page, with its locks.
fn html(status: StatusCode, page: Html) -> Answer {
    let mut answer = whole(status, "text/html; charset=utf-8", page.into_bytes());
    for (name, value) in LOCKS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn begin(out: &mut Html) {
    out.put(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Frontgate</title>\n\
         <link rel=\"icon\" href=\"{}\">\n<link rel=\"stylesheet\" href=\"{}\">\n",
        &[&ICON.path, &STYLE.path],
    );
}

fn dashboard(context: &Context, live: &Live, query: &Query, now: SystemTime) -> Html {
    let rows = Servers::rows(&live.farms);
    let mut out = Html::default();
    begin(&mut out);
    out.put("<script defer src=\"{}\"></script>\n</head>\n<body>\n", &[&SCRIPT.path]);
    head(&mut out, context, live, &rows);
    out.put("<main id=\"main\">\n", &[]);
    // The script asks for the rest alone: a thousand rows it has already.
    if query.get("part") != "rest" {
        servers::section(&mut out, &rows, query, &context.history, now);
    }
    names::section(&mut out, live, &rows, query);
    certificates::section(&mut out, &live.site, now);
    reload::section(&mut out, context.reloads.last().as_deref(), &live.site);
    explain::section(&mut out, live, query);
    events::section(&mut out, &context.events);
    out.put("</main>\n", &[]);
    servers::dialog(&mut out);
    out.put("</body>\n</html>\n", &[]);
    out
}

fn head(out: &mut Html, context: &Context, live: &Live, rows: &[super::ServerRow]) {
    let taking = rows.iter().filter(|row| row.takes_clients).count();
    let ready = if context.is_ready() { "ready" } else { "not ready" };
    out.put(
        "<a class=\"skip\" href=\"#main\">To the content</a>\n<header>\n<h1>Frontgate</h1>\n\
         <p id=\"summary\">{}: {} rules, {} farms, <span id=\"taking\">{}</span> of {} servers take \
         new clients, {} pins</p>\n<p id=\"how\" class=\"hint\"></p>\n\
         <p id=\"live\" role=\"status\" aria-live=\"polite\"></p>\n\
         <nav aria-label=\"Sections\"><a href=\"#servers\">Servers</a> <a href=\"#names\">Published\
         </a> <a href=\"#certificates\">Certificates</a> <a href=\"#reload\">Last reload</a> \
         <a href=\"#explain\">Explain</a> <a href=\"#events\">Events</a></nav>\n\
         <noscript><p class=\"hint\">Without JavaScript this page is a picture of one moment; load \
         it again for the next. Servers are taken out and back by command: <code>frontgate drain \
         FARM/SERVER</code>, <code>maintain</code>, <code>ready</code>.</p></noscript>\n</header>\n\
         <p id=\"lost\" role=\"alert\"></p>\n",
        &[
            &ready,
            &live.site.rules.len(),
            &live.farms.len(),
            &taking,
            &rows.len(),
            &live.pins.total(),
        ],
    );
}
