//! The web ticket service and its OAuth face. The tickets are fakes: they carry the user's name.
//!
//! Shapes: [MS-OCAUTHWS] and Microsoft's UCWA documentation.

use boring::base64;
use serde_json::json;

use crate::lab::{
    context::Context,
    message::{Answer, Request, escape, field, form},
};

/// The password of every user.
pub(super) const PASSWORD: &str = "Passw0rd!";

/// An OAuth access token for `user`.
pub(super) fn token(user: &str) -> String {
    format!("cwt={}", base64::encode_block(user.as_bytes()))
}

/// Whose access token this is; `None` when it is not one.
pub(super) fn user_of_token(token: &str) -> Option<String> {
    let user = base64::decode_block(token.strip_prefix("cwt=")?).ok()?;
    String::from_utf8(user).ok().filter(|user| !user.is_empty())
}

/// The value of `X-MS-WebTicket` for `user`.
pub(super) fn web_ticket(user: &str) -> String {
    format!("opaque={}", base64::encode_block(user.as_bytes()))
}

/// Whose web ticket this is; `None` when it is not one.
pub(super) fn user_of_web_ticket(ticket: &str) -> Option<String> {
    let user = base64::decode_block(ticket.strip_prefix("opaque=")?).ok()?;
    String::from_utf8(user).ok().filter(|user| !user.is_empty())
}

/// The 401 of everything that wants an OAuth token: two separate header lines, the second of
/// which says where to get one.
pub(super) fn challenge(context: &Context, request: &Request) -> Answer {
    let domain = context.estate.first_domain();
    let web = context.names(&request.host).web;
    Answer::error(401, "Unauthorized")
        .with(
            "WWW-Authenticate",
            format!(
                "Bearer trusted_issuers=\"00000002-0000-0ff1-ce00-000000000000@{domain}\", \
                 client_id=\"00000004-0000-0ff1-ce00-000000000000\""
            ),
        )
        .with(
            "WWW-Authenticate",
            format!(
                "MsRtcOAuth href=\"https://{web}/WebTicket/oauthtoken\",grant_type=\
                 \"urn:microsoft.rtc:windows,urn:microsoft.rtc:anonmeeting,password\""
            ),
        )
}

/// The 401 of a directory with Windows authentication.
pub(super) fn windows() -> Answer {
    Answer::error(401, "Unauthorized")
        .with("WWW-Authenticate", "Negotiate")
        .with("WWW-Authenticate", "NTLM")
}

/// `POST /WebTicket/oauthtoken`.
pub(super) fn oauth_token(context: &Context, request: &Request, body: &[u8]) -> Answer {
    if request.method != "POST" {
        return Answer::error(405, "Method Not Allowed").with("Allow", "POST");
    }
    let form = form(body);
    let user = field(&form, "username").unwrap_or_default();
    match field(&form, "grant_type").unwrap_or_default() {
        "password" if !user.is_empty() && field(&form, "password") == Some(PASSWORD) => {
            granted(user)
        }
        "urn:microsoft.rtc:anonmeeting"
            if field(&form, "ms_rtc_conferenceuri").is_some_and(|uri| !uri.is_empty()) =>
        {
            granted("guest@anonymous.invalid")
        }
        "password" | "urn:microsoft.rtc:anonmeeting" => {
            refused(context, "invalid_grant", "28020", "No valid security token.")
        }
        "urn:microsoft.rtc:windows" => windows(),
        _ => refused(context, "unsupported_grant_type", "28029", "Grant type is not supported."),
    }
}

fn granted(user: &str) -> Answer {
    Answer::json(
        200,
        &json!({
            "access_token": token(user),
            "expires_in": 28289,
            "ms_rtc_identityscope": "local",
            "token_type": "Bearer",
        }),
    )
    .with("Pragma", "no-cache")
}

fn refused(context: &Context, error: &str, diagnostic: &str, reason: &str) -> Answer {
    Answer::json(400, &json!({ "error": error })).with(
        "X-Ms-diagnostics",
        format!("{diagnostic};source=\"{}\";reason=\"{reason}\"", context.server.fqdn),
    )
}

/// `/WebTicket/WebTicketService.svc/mex`: where the service's ports are.
pub(super) fn metadata(context: &Context, request: &Request) -> Answer {
    let web = escape(context.names(&request.host).web);
    Answer::new(
        200,
        "text/xml; charset=utf-8",
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <wsdl:definitions name=\"WebTicketService\" \
             xmlns:wsdl=\"http://schemas.xmlsoap.org/wsdl/\" \
             xmlns:soap=\"http://schemas.xmlsoap.org/wsdl/soap/\">\
             <wsdl:service name=\"WebTicketService\"><wsdl:port name=\"WebTicketServiceAuth\">\
             <soap:address location=\"https://{web}/WebTicket/WebTicketService.svc/Auth\"/>\
             </wsdl:port></wsdl:service></wsdl:definitions>"
        ),
    )
}

/// `POST /WebTicket/WebTicketService.svc/Auth`: user name and password by WS-Security. A refusal
/// is a SOAP fault, status 500, as the real service answers.
pub(super) fn soap(_: &Context, request: &Request, body: &[u8]) -> Answer {
    if request.method != "POST" {
        return windows();
    }
    let body = String::from_utf8_lossy(body);
    let inner = match (element(&body, "Username"), element(&body, "Password")) {
        (Some(user), Some(PASSWORD)) if !user.is_empty() => {
            let ticket = web_ticket(user);
            return envelope(
                200,
                &format!(
                    "<RequestSecurityTokenResponse><RequestedSecurityToken>{ticket}\
                     </RequestedSecurityToken></RequestSecurityTokenResponse>"
                ),
            );
        }
        _ => "No valid security token.",
    };
    envelope(
        500,
        &format!(
            "<s:Fault><faultcode>wsse:FailedAuthentication</faultcode>\
             <faultstring>{inner}</faultstring></s:Fault>"
        ),
    )
}

fn envelope(status: u16, inner: &str) -> Answer {
    Answer::new(
        status,
        "text/xml; charset=utf-8",
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
             <s:Body>{inner}</s:Body></s:Envelope>"
        ),
    )
}

/// Text of the first element with this local name; enough for the one message that comes here.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    xml.split('<').find_map(|piece| {
        let (tag, text) = piece.split_once('>')?;
        let qualified = tag.split_whitespace().next()?;
        let local = qualified.rsplit(':').next()?;
        (local == name && !qualified.starts_with('/')).then(|| text.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{context::tests::context, estate::SiteKind};

    fn post(body: &str) -> Answer {
        let context = context("fe01", SiteKind::External, true);
        let header =
            pingora::http::RequestHeader::build("POST", b"/WebTicket/oauthtoken", None).unwrap();
        oauth_token(&context, &Request::new(&header), body.as_bytes())
    }

    #[test]
    fn a_token_says_whose_it_is() {
        assert_eq!(user_of_token(&token("alice@contoso.com")).unwrap(), "alice@contoso.com");
        assert_eq!(user_of_token("cwt="), None);
        assert_eq!(user_of_token("alice"), None);
        assert_eq!(user_of_web_ticket(&web_ticket("bob")).unwrap(), "bob");
    }

    #[test]
    fn the_password_grant_gives_a_token() {
        let answer = post("grant_type=password&username=alice%40contoso.com&password=Passw0rd!");
        assert_eq!(answer.status, 200);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["token_type"], "Bearer");
        let user = user_of_token(body["access_token"].as_str().unwrap()).unwrap();
        assert_eq!(user, "alice@contoso.com");
    }

    #[test]
    fn refusals_are_400_with_a_diagnostic() {
        for (body, error, diagnostic) in [
            ("grant_type=password&username=a&password=b", "invalid_grant", "28020;source=\"fe01"),
            ("grant_type=device", "unsupported_grant_type", "28029;"),
            ("", "unsupported_grant_type", "28029;"),
        ] {
            let answer = post(body);
            assert_eq!(answer.status, 400, "{body}");
            assert_eq!(answer.body, format!("{{\"error\":\"{error}\"}}"));
            assert!(
                answer
                    .headers
                    .iter()
                    .any(|(name, value)| *name == "X-Ms-diagnostics"
                        && value.starts_with(diagnostic))
            );
        }
    }

    #[test]
    fn soap_refuses_in_the_body() {
        let context = context("fe01", SiteKind::External, true);
        let header = pingora::http::RequestHeader::build("POST", b"/", None).unwrap();
        let request = Request::new(&header);
        let message = |password: &str| {
            format!(
                "<wsse:UsernameToken><wsse:Username>alice</wsse:Username>\
                 <wsse:Password Type=\"t\">{password}</wsse:Password></wsse:UsernameToken>"
            )
        };
        let answer = soap(&context, &request, message("wrong").as_bytes());
        assert_eq!(answer.status, 500);
        assert!(String::from_utf8_lossy(&answer.body).contains("No valid"));
        let answer = soap(&context, &request, message(PASSWORD).as_bytes());
        assert_eq!(answer.status, 200);
        assert!(String::from_utf8_lossy(&answer.body).contains(&web_ticket("alice")));
    }
}
