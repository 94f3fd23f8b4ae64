//! Windows authentication of requests: the handshake that `ntlm` decides, over HTTP.

use std::time::{SystemTime, UNIX_EPOCH};

use boring::rand::rand_bytes;
use pingora::protocols::http::ServerSession as Session;
use serde_json::json;

use crate::lab::{
    connection::{Caller, read_body},
    context::Context,
    message::{Answer, Request},
    ntlm::{Server, Verdict},
    seen::Outcome,
    tickets,
};

/// Seconds from 1601, where FILETIME begins, to 1970.
const EPOCH: u64 = 11_644_473_600;

/// Signs the caller in where it is not yet, and says who it is.
///
/// A 401 comes before the body is read and keeps the connection, as IIS has it: a handshake
/// that loses its connection never ends.
pub(super) async fn serve(
    session: &mut Session,
    context: &Context,
    caller: &mut Caller,
    request: &Request,
) -> pingora::Result<Outcome> {
    let answer = match step(context, caller, request) {
        Verdict::Serve { user, last } => {
            let length = read_body(session, request, |_| ()).await?;
            let answer = who(context, caller, request, length).with("X-Lab-User", user);
            match last {
                Some(value) => answer.with("WWW-Authenticate", value),
                None => answer,
            }
        }
        Verdict::Continue(value) => {
            Answer::error(401, "Unauthorized").with("WWW-Authenticate", value)
        }
        Verdict::Refuse => tickets::windows(),
    };
    if answer.status == 401 {
        session.set_close_on_response_before_downstream_finish(false);
    }
    caller.send(session, context, &answer).await?;
    Ok(Outcome::Status(answer.status))
}

fn step(context: &Context, caller: &mut Caller, request: &Request) -> Verdict {
    let mut random = [0; 8];
    if let Err(error) = rand_bytes(&mut random) {
        log::warn!("lab: no random numbers: {error}");
        return Verdict::Refuse;
    }
    let server = Server {
        names: &context.estate.windows_names(&context.server),
        users: &context.users,
        random,
        now: filetime(SystemTime::now()),
    };
    // What cannot be read as text is no credential, but not the lack of one either.
    let authorization =
        request.headers.get("authorization").map(|value| value.to_str().unwrap_or_default());
    caller.handshake.step(authorization, &server)
}

/// Who the server thinks the caller is; the user is null where nobody signed in.
pub(super) fn who(context: &Context, caller: &Caller, request: &Request, length: u64) -> Answer {
    Answer::json(
        200,
        &json!({
            "user": caller.handshake.user(),
            "connection": caller.id,
            "request": caller.requests,
            "server": context.server.name,
            "method": request.method,
            "bytes": length,
        }),
    )
}

/// 100 ns since 1601.
fn filetime(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() + EPOCH) * 10_000_000 + u64::from(since.subsec_nanos() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filetime_counts_from_1601() {
        assert_eq!(filetime(UNIX_EPOCH), 116_444_736_000_000_000);
    }
}
