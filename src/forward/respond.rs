//! Answers that Frontgate makes itself.

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::{Result, http::ResponseHeader, proxy::Session};

use crate::reason::Reason;

/// Sends a short text with the reason code. It names no product and no version.
///
/// # Errors
/// The client is gone.
pub(super) async fn plain(session: &mut Session, reason: Reason) -> Result<()> {
    send(session, reason, reason.status, None).await
}

/// Sends a redirect.
///
/// # Errors
/// The client is gone.
pub(super) async fn redirect(
    session: &mut Session,
    reason: Reason,
    status: u16,
    location: &str,
) -> Result<()> {
    send(session, reason, status, Some(location)).await
}

async fn send(
    session: &mut Session,
    reason: Reason,
    status: u16,
    location: Option<&str>,
) -> Result<()> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = Bytes::from(reason.body());
    let mut answer = ResponseHeader::build(status, Some(6))?;
    answer.insert_header(header::CONTENT_TYPE, "text/plain; charset=utf-8")?;
    answer.insert_header(header::CONTENT_LENGTH, body.len())?;
    answer.insert_header(header::CACHE_CONTROL, "no-store")?;
    if let Some(location) = location {
        answer.insert_header(header::LOCATION, location)?;
    }
    write(session, answer, body).await
}

/// Sends an answer whose header is complete; no body to HEAD.
///
/// # Errors
/// The client is gone.
pub(super) async fn write(
    session: &mut Session,
    answer: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    // A body that was not read is not waited for; the connection closes in good order instead.
    if !session.is_body_done() {
        session.set_keepalive(None);
    }
    let empty = body.is_empty() || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(answer), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
