//! What went wrong, whether to try again, and what the client is told.

use std::{sync::atomic::Ordering, time::Duration};

use http::Method;
use pingora::{
    Error, ErrorSource, ErrorType,
    proxy::{FailToProxy, Session},
};

use super::{Ctx, respond};
use crate::{
    farm::Failure,
    listen,
    reason::{self, Reason},
};

/// A reused connection that the server had already closed says so at once.
const STALE: Duration = Duration::from_secs(1);

/// How many servers may die under one request before it is given up.
const REPLAYS: usize = 3;

/// The exchange with a connected server broke.
pub(super) fn while_proxying(
    session: &Session,
    ctx: &mut Ctx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let reason = reason_of(&error, ctx);
    ctx.reason = Some(reason);
    ctx.attempt_broke();
    let stale = Attempt {
        reused,
        safe: matches!(session.req_header().method, Method::GET | Method::HEAD),
        bodiless: ctx.received == 0,
        answered: ctx.answered || begun_to_answer(&error),
        broken: reason == reason::SERVER_CLOSED,
        pinned: ctx.holds.is_some(),
        open_ended: ctx.tunnel.is_some() || open_ended(&session.req_header().method),
        age: ctx.sent.map_or(Duration::MAX, |sent| sent.elapsed()),
    };
    let again = stale.again();
    let at_fault = [reason::SERVER_CLOSED, reason::SERVER_PROTOCOL, reason::SERVER_SILENT];
    if again != Again::Here && at_fault.contains(&reason) {
        ctx.count_failure();
    }
    let replayed = match again {
        Again::Here => true,
        Again::Elsewhere if ctx.suspects.len() >= REPLAYS => false,
        Again::Elsewhere => ctx.replay_elsewhere(),
        Again::Never => {
            if let (true, Some(farm), Some(server)) = (stale.blames(), &ctx.farm, &ctx.server) {
                farm.failed(server, Failure::Reset);
            }
            false
        }
    };
    error.set_retry(replayed);
    if *error.esource() == ErrorSource::Upstream && !error.retry() {
        let farm = ctx.farm.as_ref().map_or("", |f| &f.spec().name);
        let server = ctx.server.as_ref().map_or("", |s| s.name());
        log::debug!("farm {farm}: server {server}: {}: {error}", reason.code);
    }
    error
}

/// What is known about an attempt that broke.
struct Attempt {
    reused: bool,
    safe: bool,
    bodiless: bool,
    answered: bool,
    broken: bool,
    pinned: bool,
    /// A tunnel or stream, which servers end when they like.
    open_ended: bool,
    age: Duration,
}

/// COMPAT: Outlook Anywhere announces a gigabyte and ends its channels when it wants to.
/// Test: streams_that_end_early_put_nobody_out
fn open_ended(method: &Method) -> bool {
    matches!(method.as_str(), "RPC_IN_DATA" | "RPC_OUT_DATA")
}

/// What took longer than this was a poll. Its client polls anew by itself, and a server that took
/// a thousand of them along must not have them all poured over the others.
const POLL: Duration = Duration::from_secs(30);

/// Whether an exchange that broke is begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// At the same server: it had closed the connection before the request came.
    Here,
    /// At another server: this one died in the middle.
    Elsewhere,
    Never,
}

impl Attempt {
    /// Only GET or HEAD without a body of which no byte of an answer came. What meets a connection
    /// that was closed meanwhile learns that within the first second. Never a pinned request: its
    /// sign-in went down with the connection. Never after silence: the server is at work on it.
    /// Test: no_get_fails_while_servers_come_and_go
    fn again(&self) -> Again {
        let harmless = self.safe && self.bodiless && !self.answered && !self.pinned;
        match harmless && self.broken && self.age < POLL {
            true if self.stale() => Again::Here,
            true => Again::Elsewhere,
            false => Again::Never,
        }
    }

    /// Whether the server had closed the connection before the request came.
    fn stale(&self) -> bool {
        self.reused && !self.answered && self.age < STALE
    }

    /// Whether that it broke speaks against the server.
    fn blames(&self) -> bool {
        self.broken && !self.stale() && !(self.answered && self.open_ended)
    }
}

/// Whether bytes of an answer came before its header was whole. Pingora says so only in words.
/// Test: a_get_is_not_replayed_once_bytes_of_an_answer_came
fn begun_to_answer(error: &Error) -> bool {
    let said = error.context.as_ref().map_or("", |context| context.as_str());
    said.rsplit_once("bytes already read: ").is_some_and(|(_, count)| !count.starts_with('0'))
}

/// Finds the reason for an error of Pingora's.
fn reason_of(error: &Error, ctx: &Ctx) -> Reason {
    use ErrorType::{
        ConnectionClosed, H2Error, HTTPStatus, InvalidHTTPHeader, ReadError, ReadTimedout,
        WriteError, WriteTimedout,
    };
    match (error.esource(), error.etype()) {
        // An error of our own, its reason settled where it was found.
        _ if listen::body::stalled() => reason::BODY_TIMEOUT,
        (_, HTTPStatus(_)) => ctx.reason.unwrap_or(reason::INTERNAL),
        (ErrorSource::Downstream, _) if framing_broken(ctx) => reason::BAD_FRAMING,
        (ErrorSource::Downstream, ReadTimedout) => reason::BODY_TIMEOUT,
        (ErrorSource::Downstream, InvalidHTTPHeader) => reason::BAD_HEADER,
        (ErrorSource::Downstream, _) => reason::CLIENT_LEFT,
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => reason::SERVER_SILENT,
        (ErrorSource::Upstream, ConnectionClosed | ReadError | WriteError | H2Error) => {
            reason::SERVER_CLOSED
        }
        (ErrorSource::Upstream, _) => reason::SERVER_PROTOCOL,
        _ => reason::INTERNAL,
    }
}

fn framing_broken(ctx: &Ctx) -> bool {
    ctx.connection.as_ref().is_some_and(|c| c.framing_broken.load(Ordering::Relaxed))
}

/// The request failed for good: one answer, if there is still somebody to read it.
pub(super) async fn answer(session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
    let reason = match (ctx.reason, reason_of(error, ctx)) {
        // Whatever was to be said, there was nobody to say it to.
        (_, reason::CLIENT_LEFT) | (None, _) => *ctx.reason.insert(reason_of(error, ctx)),
        (Some(reason), _) => reason,
    };
    // Into a tunnel nothing of ours may be written. Test: websockets_are_never_written_into
    let begun = session.was_upgraded()
        || session.response_written().is_some_and(|r| !r.status.is_informational());
    let gone = FailToProxy { error_code: 0, can_reuse_downstream: false };
    if begun || reason == reason::CLIENT_LEFT {
        return gone;
    }
    // Pingora closes the client connection after a failed exchange; the answer has to say so.
    session.set_keepalive(None);
    match respond::plain(session, reason).await {
        Ok(()) => FailToProxy { error_code: reason.status, can_reuse_downstream: false },
        Err(_) => gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE_GET: Attempt = Attempt {
        reused: true,
        safe: true,
        bodiless: true,
        answered: false,
        broken: true,
        pinned: false,
        open_ended: false,
        age: Duration::from_millis(3),
    };

    const DIED: Attempt = Attempt { reused: false, ..STALE_GET };

    #[test]
    fn only_a_harmless_request_is_begun_anew() {
        assert_eq!(STALE_GET.again(), Again::Here);
        assert_eq!(DIED.again(), Again::Elsewhere);
        for attempt in [STALE_GET, DIED] {
            for attempt in [
                Attempt { safe: false, ..attempt },
                Attempt { bodiless: false, ..attempt },
                Attempt { answered: true, ..attempt },
                Attempt { broken: false, ..attempt },
                Attempt { pinned: true, ..attempt },
            ] {
                assert_eq!(attempt.again(), Again::Never);
            }
        }
    }

    #[test]
    fn only_what_breaks_in_the_middle_speaks_against_a_server() {
        assert!(DIED.blames() && Attempt { safe: false, answered: true, ..DIED }.blames());
        let post = Attempt { safe: false, ..STALE_GET };
        assert!(!post.blames(), "it met a connection that was closed");
        assert!(!Attempt { answered: true, open_ended: true, ..DIED }.blames());
        assert!(Attempt { open_ended: true, ..DIED }.blames());
        assert!(!Attempt { broken: false, ..DIED }.blames());
    }

    #[test]
    fn a_server_that_dies_at_work_is_replaced_but_a_poll_that_hung_is_not() {
        let at = |seconds| Attempt { age: Duration::from_secs(seconds), ..STALE_GET };
        assert_eq!(at(2).again(), Again::Elsewhere);
        assert_eq!(at(181).again(), Again::Never);
    }
}
