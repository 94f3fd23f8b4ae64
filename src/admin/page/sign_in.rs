//! Showing the token once, where reading needs it.

use http::{HeaderValue, Method, StatusCode, header};
use pingora::protocols::http::ServerSession;

use super::{begin, html::Html, query::Query};
use crate::admin::{
    answer::{Answer, Problem, text},
    api::body,
    app::Access,
    guard::{Session, same_origin},
};

pub(super) const PATH: &str = "/sign-in";

/// Answers the form: a cookie that allows reading, and back to the page.
pub(super) async fn answer(session: &mut ServerSession, access: &Access) -> Answer {
    match signed_in(session, access).await {
        Ok(answer) => answer,
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
            page(problem.status, "This is not the token.")
        }
        Err(problem) => problem.answer(),
    }
}

async fn signed_in(session: &mut ServerSession, access: &Access) -> Result<Answer, Problem> {
    let request = session.req_header();
    if request.method != Method::POST {
        return Ok(to_the_page());
    }
    same_origin(&request.headers)?;
    let form = Query::of(&body(session).await?);
    if !access.token.matches(form.get("token").as_bytes()) {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "this is not the token"));
    }
    let mut answer = to_the_page();
    if let Ok(cookie) = HeaderValue::from_str(&Session::of(&access.token).cookie()) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(answer)
}

fn to_the_page() -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    answer
}

/// The form.
pub(super) fn page(status: StatusCode, message: &str) -> Answer {
    let mut out = Html::default();
    begin(&mut out);
    out.put(
        "</head>\n<body>\n<header><h1>Frontgate</h1></header>\n<main id=\"main\"><section>\n\
         <h2>Sign in</h2>\n<p role=\"alert\">{}</p>\n\
         <form method=\"post\" action=\"/sign-in\">\n<p><label for=\"token\">Token (the first line \
         of <code>admin.token_file</code>)</label>\n<input id=\"token\" name=\"token\" \
         type=\"password\" autocomplete=\"off\" required autofocus></p>\n\
         <p><button>Sign in</button></p>\n</form>\n</section></main>\n</body>\n</html>\n",
        &[&message],
    );
    super::html(status, out)
}
