//! The API, version 1: which path does what.

#[cfg(test)]
mod measured;

use std::{sync::Arc, time::SystemTime};

use http::{Method, StatusCode};
use log::{info, warn};
use pingora::protocols::http::ServerSession;
use tokio::sync::OwnedRwLockReadGuard;

use super::{
    answer::{Answer, Problem, answer as whole, json},
    app::{Access, Peer},
    context::Context,
    desk, events, explained, guard,
    inventory::{Certificates, Farms, Pins, Site},
    view::{Done, OrderBody, Servers},
};
use crate::farm::{Order, State};

/// What every path of the API starts with.
pub(super) const PREFIX: &str = "/api/v1/";

/// Longest body of a request.
const LONGEST: usize = 16 * 1024;

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Read(Page),
    Change(Change),
}

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Events,
    Explain,
    Servers,
    Site,
    Farms,
    Pins,
    Certificates,
    OpenApi,
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Reload,
    State(State),
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path.strip_prefix(PREFIX)? {
            "events" => Self::Read(Page::Events),
            "explain" => Self::Read(Page::Explain),
            "servers" => Self::Read(Page::Servers),
            "site" => Self::Read(Page::Site),
            "farms" => Self::Read(Page::Farms),
            "pins" => Self::Read(Page::Pins),
            "openapi.json" => Self::Read(Page::OpenApi),
            "certificates" => Self::Read(Page::Certificates),
            "drain" => Self::Change(Change::State(State::Drain)),
            "maintain" => Self::Change(Change::State(State::Maintenance)),
            "reload" => Self::Change(Change::Reload),
            "ready" => Self::Change(Change::State(State::Ready)),
            _ => return None,
        })
    }
}

/// Answers a request under [`PREFIX`].
pub(super) async fn answer(
    session: &mut ServerSession,
    access: &Access,
    context: &Arc<Context>,
    peer: &Peer,
) -> Answer {
    let request = session.req_header();
    let told = format!("{} {}", request.method, request.uri.path());
    let answered = match Route::of(request.uri.path()) {
        None => Err(Problem::new(StatusCode::NOT_FOUND, "there is no such thing in the API")),
        Some(Route::Change(what)) => {
            let changed = change(session, access, context, what, peer).await;
            if let Err(Problem { status, error, .. }) = &changed {
                let from = &peer.from;
                warn!("admin: {told} from {from} refused: {status}: {error}");
            }
            changed
        }
        Some(Route::Read(page)) => read(session, access, context, page).await,
    };
    answered.unwrap_or_else(Problem::answer)
}

async fn read(
    session: &ServerSession,
    access: &Access,
    context: &Arc<Context>,
    page: Page,
) -> Result<Answer, Problem> {
    let request = session.req_header();
    allows(&request.method, &[Method::GET, Method::HEAD], "GET, HEAD")?;
    if access.to_read {
        guard::may_read(&request.headers, &access.token)?;
    }
    if page == Page::OpenApi {
        // Always the same, so there is nothing to write.
        return written(context, page, None);
    }
    let query = request.uri.query().map(str::to_owned);
    let asked = context.clone();
    let work = move || written(&asked, page, query.as_deref()).unwrap_or_else(Problem::answer);
    let problem = |status, error: &str| Problem::new(status, error).answer();
    Ok(context.desk.write(problem, work).await)
}

/// What is read; takes as long as the site is large.
fn written(context: &Context, page: Page, query: Option<&str>) -> Result<Answer, Problem> {
    let live = || context.live().ok_or_else(starting);
    Ok(match page {
        Page::Events => events::answer(&context.events, query)?,
        Page::Explain => {
            json(StatusCode::OK, &explained::answer(&*live()?, query.unwrap_or_default())?)
        }
        Page::Servers => {
            json(StatusCode::OK, &Servers::of(&context.farms.list(), context.replaced()))
        }
        Page::Site => json(StatusCode::OK, &Site::of(&live()?.site, context.reloads.last())),
        Page::Farms => json(StatusCode::OK, &Farms::of(&live()?.farms)),
        Page::OpenApi => {
            whole(StatusCode::OK, "application/json", include_str!("openapi.json").into())
        }
        Page::Pins => json(StatusCode::OK, &Pins::of(&*live()?)),
        Page::Certificates => {
            json(StatusCode::OK, &Certificates::of(&live()?.site, SystemTime::now()))
        }
    })
}

async fn change(
    session: &mut ServerSession,
    access: &Access,
    context: &Arc<Context>,
    what: Change,
    peer: &Peer,
) -> Result<Answer, Problem> {
    let request = session.req_header();
    allows(&request.method, &[Method::POST], "POST")?;
    guard::may_change(&request.headers)?;
    guard::knows_token(&request.headers, &access.token)?;
    let body = body(session).await?;
    let leave = context.change().ok_or_else(handing_over)?;
    match what {
        Change::Reload => {
            // It is done where hand-overs are begun: never during one.
            drop(leave);
            let told = context.asked.ask(&body, &peer.from, &peer.waits).await?;
            // Of ten thousand rules there may be as many findings.
            let written = tokio::task::spawn_blocking(move || json(StatusCode::OK, &told)).await;
            written.map_err(|_| desk::failed())
        }
        Change::State(state) => order(context, leave, state, &body, &peer.from).await,
    }
}

fn handing_over() -> Problem {
    let text = "another Frontgate is taking over; try again in a moment";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn starting() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Frontgate is still starting")
}

pub(super) fn allows(method: &Method, known: &[Method], told: &'static str) -> Result<(), Problem> {
    if known.contains(method) {
        return Ok(());
    }
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, told);
    Err(Problem { allow: Some(told), ..problem })
}

/// `drain`, `maintain`, `ready`.
async fn order(
    context: &Arc<Context>,
    leave: OwnedRwLockReadGuard<()>,
    state: State,
    body: &[u8],
    from: &str,
) -> Result<Answer, Problem> {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let body: OrderBody =
        serde_json::from_slice(body).map_err(|e| bad(format!("the body: {e}")))?;
    if let Some(fault) = body.fault() {
        return Err(bad(fault));
    }
    if context.farms.list().is_empty() {
        return Err(starting());
    }
    let why = body.why.as_deref().map(str::trim).filter(|why| !why.is_empty());
    let order = Order {
        state,
        who: body.who.trim().into(),
        why: why.map(Into::into),
        since: SystemTime::now(),
    };
    let told = format!(
        "{state} for {} by {} from {from}: {}",
        body.server,
        order.who,
        why.unwrap_or("no reason given")
    );
    let farms = context.farms.clone();
    // It waits for the disk, also when whoever asked has left.
    let done = tokio::task::spawn_blocking(move || {
        let _leave = leave;
        farms.command(&body.server, &order)
    });
    let done = done.await;
    let done = done.map_err(|_| desk::failed())?;
    match done {
        Ok(done) => {
            let kept = if done.kept { "kept across restarts" } else { "NOT kept across restarts" };
            info!("admin: {told}; {} servers, {kept}", done.changed.len());
            Ok(json(StatusCode::OK, &Done::from(done)))
        }
        Err(unknown) => {
            let problem = Problem::new(StatusCode::NOT_FOUND, unknown.to_string());
            Err(Problem { near: unknown.near, ..problem })
        }
    }
}

/// The body of a request, within bounds.
pub(super) async fn body(session: &mut ServerSession) -> Result<Vec<u8>, Problem> {
    let mut all = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(bytes)) => all.extend_from_slice(&bytes),
            Ok(None) => return Ok(all),
            Err(_) => return Err(Problem::new(StatusCode::BAD_REQUEST, "the body breaks off")),
        }
        if all.len() > LONGEST {
            let text = format!("the body has more than {LONGEST} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_routes() {
        let state = |state| Some(Route::Change(Change::State(state)));
        assert_eq!(Route::of("/api/v1/events"), Some(Route::Read(Page::Events)));
        assert_eq!(Route::of("/api/v1/servers"), Some(Route::Read(Page::Servers)));
        assert_eq!(Route::of("/api/v1/explain"), Some(Route::Read(Page::Explain)));
        assert_eq!(Route::of("/api/v1/reload"), Some(Route::Change(Change::Reload)));
        assert_eq!(Route::of("/api/v1/drain"), state(State::Drain));
        assert_eq!(Route::of("/api/v1/maintain"), state(State::Maintenance));
        assert_eq!(Route::of("/api/v1/ready"), state(State::Ready));
        for nothing in ["/api/v1/", "/api/v1/Drain", "/api/v1/drain/", "/api/v2/drain", "/drain"] {
            assert_eq!(Route::of(nothing), None, "{nothing}");
        }
    }
}
