//! The autodiscover service (lyncdiscover) in its three formats.
//!
//! Shapes: [MS-OCDISCWS] 3.1.5 and Microsoft's UCWA and Lync 2013 documentation.

use serde_json::{Value, json};

use crate::lab::{
    context::Context,
    estate::Pool,
    message::{Answer, Request, escape},
    tickets,
};

const SERVICE: &str = "Autodiscover/AutodiscoverService.svc/root";
const RTC_JSON: &str = "application/vnd.microsoft.rtc.autodiscover+json;v=1";
const RTC_XML: &str = "application/vnd.microsoft.rtc.autodiscover+xml;v=1";

/// Answers `…/AutodiscoverService.svc/root` and what is below it; `below` are the path segments
/// after `root`.
pub(super) fn answer(context: &Context, request: &Request, below: &[String]) -> Answer {
    let Some(format) = Format::wanted(request.header("accept")) else {
        return Answer::error(406, "Not Acceptable");
    };
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    match below.as_slice() {
        _ if !context.tls => redirect(context, request, format, None),
        [] => root(context, request, format),
        ["domain"] => domain(context, request, format),
        ["user"] => user(context, request, format),
        ["oauth", "user"] => oauth_user(context, request, format),
        _ => Answer::error(404, "Not Found"),
    }
}

/// A page for browser clients, which talk to the service through a frame.
pub(super) fn xframe() -> Answer {
    Answer::html(
        200,
        "<!DOCTYPE html><html><head><title>XFrame</title>\
         <script>window.onmessage=function(e){};</script></head><body></body></html>\n"
            .to_owned(),
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Hal,
    RtcJson,
    RtcXml,
}

impl Format {
    /// What `Accept` asks for; `None` when nothing that exists. A missing Accept gives another
    /// format than `*/*`: a proxy that adds one is found out by it.
    fn wanted(accept: Option<&str>) -> Option<Self> {
        let Some(accept) = accept else { return Some(Self::RtcJson) };
        let accept = accept.to_ascii_lowercase();
        accept.split(',').map(|part| part.split(';').next().unwrap_or(part).trim()).find_map(
            |media_type| match media_type {
                "application/vnd.microsoft.rtc.autodiscover+json" => Some(Self::RtcJson),
                "application/vnd.microsoft.rtc.autodiscover+xml" => Some(Self::RtcXml),
                "application/json" | "application/*" | "text/html" | "*/*" => Some(Self::Hal),
                _ => None,
            },
        )
    }

    /// One resource with its links: the name of the resource, `AccessLocation`, further members
    /// (`fqdn` and port by name) and links (token and address).
    fn document(
        self,
        resource: &str,
        location: &str,
        access: &[(&str, String, &str)],
        links: &[(&str, String)],
    ) -> Answer {
        match self {
            Self::Hal => {
                let links: serde_json::Map<String, Value> =
                    links.iter().map(|(rel, href)| (hal(rel), json!({ "href": href }))).collect();
                Answer::json(200, &json!({ "_links": links }))
            }
            Self::RtcJson => {
                let mut inner = serde_json::Map::new();
                for (name, fqdn, port) in access {
                    inner.insert((*name).into(), json!({ "fqdn": fqdn, "port": port }));
                }
                let links: Vec<Value> = links
                    .iter()
                    .map(|(token, href)| json!({ "href": href, "token": token }))
                    .collect();
                inner.insert("Links".into(), links.into());
                let document = json!({ "AccessLocation": location, resource: inner });
                Answer::new(200, RTC_JSON, document.to_string())
            }
            Self::RtcXml => {
                let mut inner = String::new();
                for (name, fqdn, port) in access {
                    inner += &format!("<{name} fqdn=\"{}\" port=\"{port}\"/>", escape(fqdn));
                }
                for (token, href) in links {
                    inner += &format!("<Link token=\"{token}\" href=\"{}\"/>", escape(href));
                }
                let document = format!(
                    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
                     <AutodiscoverResponse xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                     xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" AccessLocation=\"{location}\">\
                     <{resource}>{inner}</{resource}></AutodiscoverResponse>"
                );
                Answer::new(200, RTC_XML, document)
            }
        }
    }
}

/// The link relation HAL uses for a token of the RTC formats.
fn hal(token: &str) -> String {
    match token {
        "OAuth" => "user".into(),
        "Ucwa" => "applications".into(),
        other => other.to_ascii_lowercase(),
    }
}

fn root(context: &Context, request: &Request, format: Format) -> Answer {
    let names = context.names(&request.host);
    let link = |rest: &str| address(context, request, names.web, rest);
    let xframe = format!("https://{}/Autodiscover/XFrame/XFrame.html", names.web);
    let links = match format {
        Format::Hal => {
            vec![("Self", link("")), ("OAuth", link("/oauth/user")), ("XFrame", xframe)]
        }
        Format::RtcJson | Format::RtcXml => vec![
            ("Domain", link("/domain")),
            ("User", link("/user")),
            ("Self", link("")),
            ("OAuth", link("/oauth/user")),
            ("XFrame", xframe),
        ],
    };
    format.document("Root", names.location, &[], &links)
}

fn domain(context: &Context, request: &Request, format: Format) -> Answer {
    let names = context.names(&request.host);
    let Some(pool) = context.pool() else { return Answer::error(404, "Not Found") };
    let links = [
        ("Internal/Autodiscover", address(context, request, &pool.internal, "")),
        ("External/Autodiscover", address(context, request, &pool.external, "")),
        ("Self", address(context, request, names.web, "/domain")),
    ];
    format.document("Domain", names.location, &access(context, pool), &links)
}

fn user(context: &Context, request: &Request, format: Format) -> Answer {
    let names = context.names(&request.host);
    let ticket = request.header("x-ms-webticket").and_then(tickets::user_of_web_ticket);
    match ticket {
        Some(name) => signed_in(context, request, format, &name, "/user"),
        None => Answer::error(401, "Unauthorized")
            .with(
                "X-MS-WebTicketURL",
                format!("https://{}/WebTicket/WebTicketService.svc", names.web),
            )
            .with("X-MS-WebTicketSupported", "cwt,saml"),
    }
}

fn oauth_user(context: &Context, request: &Request, format: Format) -> Answer {
    match request.bearer().and_then(tickets::user_of_token) {
        Some(name) => signed_in(context, request, format, &name, "/oauth/user"),
        None => tickets::challenge(context, request),
    }
}

/// The document of a user who is known: its services, or where its home pool is.
fn signed_in(
    context: &Context,
    request: &Request,
    format: Format,
    name: &str,
    path: &str,
) -> Answer {
    let home = context.estate.home(name);
    let Some(pool) = context.estate.pools.get(home) else {
        return Answer::error(404, "Not Found");
    };
    if context.server.pool() != Some(home) {
        return redirect(context, request, format, Some(pool));
    }
    let names = context.names(&request.host);
    let applications = format!("https://{}/ucwa/oauth/v1/applications", names.web);
    let xframe = format!("https://{}/Autodiscover/XFrame/XFrame.html", names.web);
    let itself = address(context, request, names.web, path);
    if format == Format::Hal {
        let links = [("Self", itself), ("Ucwa", applications), ("XFrame", xframe)];
        return format.document("User", names.location, &[], &links);
    }
    let mut links = Vec::new();
    for (tokens, web) in [(INTERNAL, &pool.internal), (EXTERNAL, &pool.external)] {
        for (token, path) in tokens.iter().zip(SERVICES) {
            links.push((*token, format!("https://{web}/{path}")));
        }
    }
    links.extend([("Ucwa", applications), ("XFrame", xframe), ("Self", itself)]);
    format.document("User", names.location, &access(context, pool), &links)
}

const SERVICES: [&str; 6] = [
    SERVICE,
    "Reach/sip.svc",
    "Scheduler",
    "Mcx/McxService.svc",
    "ucwa/v1/applications",
    "Autodiscover/XFrame/XFrame.html",
];
const INTERNAL: [&str; 6] = [
    "Internal/Autodiscover",
    "Internal/AuthBroker",
    "Internal/WebScheduler",
    "Internal/Mcx",
    "Internal/Ucwa",
    "Internal/XFrame",
];
const EXTERNAL: [&str; 6] = [
    "External/Autodiscover",
    "External/AuthBroker",
    "External/WebScheduler",
    "External/Mcx",
    "External/Ucwa",
    "External/XFrame",
];

/// The SIP servers of a pool. Internal names are in here by design.
fn access(context: &Context, pool: &Pool) -> [(&'static str, String, &'static str); 4] {
    let edge = format!("sip.{}", context.estate.first_domain());
    [
        ("SipServerInternalAccess", pool.fqdn.clone(), "5061"),
        ("SipClientInternalAccess", pool.fqdn.clone(), "443"),
        ("SipServerExternalAccess", edge.clone(), "5061"),
        ("SipClientExternalAccess", edge, "443"),
    ]
}

/// A 200 whose only link says where to ask: what plain HTTP gets, and a user of another pool.
fn redirect(context: &Context, request: &Request, format: Format, to: Option<&Pool>) -> Answer {
    let names = context.names(&request.host);
    let web = match to {
        Some(pool) if names.location == "External" => &pool.external,
        Some(pool) => &pool.internal,
        None => names.web,
    };
    let target = address(context, request, web, "");
    format.document("Root", names.location, &[], &[("Redirect", target)])
}

/// Address of `rest` below the service's root on `web`.
fn address(context: &Context, request: &Request, web: &str, rest: &str) -> String {
    let domains = &context.estate.domains;
    let asked = request.query("sipuri").and_then(|uri| uri.rsplit_once('@')).map(|(_, name)| name);
    let by_host = request.host.split_once('.').map(|(_, name)| name);
    let domain = [asked, by_host]
        .into_iter()
        .flatten()
        .find(|name| domains.iter().any(|domain| domain.eq_ignore_ascii_case(name)))
        .unwrap_or_else(|| context.estate.first_domain());
    format!("https://{web}/{SERVICE}{rest}?originalDomain={domain}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{context::tests::context, estate::SiteKind};

    fn request(target: &str, headers: &[(&'static str, &str)]) -> Request {
        let mut header =
            pingora::http::RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in headers {
            header.append_header(*name, *value).unwrap();
        }
        Request::new(&header)
    }

    fn ask(context: &Context, below: &str, headers: &[(&'static str, &str)]) -> (Answer, String) {
        let mut all = vec![("Host", "lyncdiscover.contoso.com")];
        all.extend_from_slice(headers);
        let below: Vec<String> = below.split_terminator('/').map(str::to_owned).collect();
        let answer = answer(context, &request("/?sipuri=alice@contoso.com", &all), &below);
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        (answer, body)
    }

    #[test]
    fn the_three_formats_of_the_root_name_only_external_hosts() {
        let context = context("fe01", SiteKind::External, true);
        for (accept, expected) in [
            ("application/json", r#""self":{"href":"https://lyncweb.contoso.com/"#),
            (RTC_JSON, r#""AccessLocation":"External""#),
            (RTC_XML, r#"AccessLocation="External"><Root><Link token="Domain""#),
        ] {
            let (answer, body) = ask(&context, "", &[("Accept", accept)]);
            assert_eq!(answer.status, 200);
            assert!(body.contains(expected), "{accept}: {body}");
            assert!(!body.contains(".local"), "{accept}: {body}");
        }
    }

    #[test]
    fn without_accept_the_format_is_another_than_with_a_wildcard() {
        let context = context("fe01", SiteKind::External, true);
        assert!(ask(&context, "", &[]).1.contains("AccessLocation"));
        assert!(ask(&context, "", &[("Accept", "*/*")]).1.contains("_links"));
        assert_eq!(ask(&context, "", &[("Accept", "image/png")]).0.status, 406);
    }

    #[test]
    fn plain_http_gets_one_redirect_link_to_https_with_status_200() {
        let context = context("fe01", SiteKind::External, false);
        let (answer, body) = ask(&context, "", &[("Accept", RTC_XML)]);
        assert_eq!(answer.status, 200);
        assert_eq!(body.matches("<Link ").count(), 1);
        assert!(body.contains(r#"token="Redirect" href="https://lyncweb.contoso.com/"#), "{body}");
        let (_, body) = ask(&context, "", &[("Accept", "application/json")]);
        assert!(body.starts_with(r#"{"_links":{"redirect":{"href":"https://"#), "{body}");
    }

    #[test]
    fn user_needs_a_ticket_and_says_where_to_get_it() {
        let context = context("fe01", SiteKind::External, true);
        let (answer, _) = ask(&context, "user", &[]);
        assert_eq!(answer.status, 401);
        assert!(answer.headers.iter().any(|(name, value)| *name == "X-MS-WebTicketURL"
            && value == "https://lyncweb.contoso.com/WebTicket/WebTicketService.svc"));
        let ticket = tickets::web_ticket("alice@contoso.com");
        let (answer, body) =
            ask(&context, "user", &[("X-MS-WebTicket", &ticket), ("Accept", RTC_XML)]);
        assert_eq!(answer.status, 200);
        assert!(body.contains(r#"<Link token="External/Mcx" href="https://lyncweb.contoso.com/"#));
    }

    #[test]
    fn a_user_of_another_pool_is_sent_there() {
        let context = context("fe01", SiteKind::External, true);
        let token = format!("Bearer {}", tickets::token("bob@contoso.com"));
        let (answer, body) = ask(
            &context,
            "oauth/user",
            &[("Authorization", &token), ("Accept", "application/json")],
        );
        assert_eq!(answer.status, 200);
        assert!(body.contains(r#""redirect":{"href":"https://lyncweb2.contoso.com/"#), "{body}");
    }

    #[test]
    fn domain_is_always_200() {
        for site in [SiteKind::External, SiteKind::Internal] {
            let (answer, body) = ask(&context("fe02", site, true), "domain", &[]);
            assert_eq!(answer.status, 200);
            assert!(body.contains("SipClientExternalAccess"), "{body}");
        }
    }

    #[test]
    fn the_internal_site_gives_itself_away() {
        let (_, body) = ask(&context("fe01", SiteKind::Internal, true), "", &[]);
        assert!(body.contains(r#""AccessLocation":"Internal""#), "{body}");
        assert!(body.contains("https://webint-a.contoso.local/"), "{body}");
    }
}
