//! What a log does not tell: credentials, and the values of queries.

use std::borrow::Cow;

use crate::site::LogQuery;

/// The longest text in front of a `=` that counts as the name of a parameter.
const NAME: usize = 32;

/// A path or a whole target without its query: the user information of an authority and the
/// tickets of ASP.NET's `/(S(ticket))/` become `*`, whatever the settings.
///
/// SECURITY: whoever holds such a ticket is signed in. Test: credentials_are_never_told
pub(super) fn path(text: &str) -> Cow<'_, str> {
    let open = |c| text.contains(c);
    if !open('@') && !open('(') && !open('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for (index, piece) in text.split("://").enumerate() {
        if index > 0 {
            out.push_str("://");
        }
        let piece = piece.strip_prefix("//").inspect(|_| out.push_str("//")).unwrap_or(piece);
        let end = piece.find(['/', '\\']).unwrap_or(piece.len());
        let (authority, rest) = piece.split_at(end);
        out.push_str(&self::authority(authority));
        for (index, segment) in rest.split('/').enumerate() {
            if index > 0 {
                out.push('/');
            }
            out.push_str(if is_ticket(segment) { "(*)" } else { segment });
        }
    }
    Cow::Owned(out)
}

/// A host: nobody but an attacker or a mistake puts user information in front of it.
pub(super) fn authority(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("*@{host}")),
        None => Cow::Borrowed(text),
    }
}

/// A query, without its `?`. `None`: there is nothing to tell.
pub(super) fn query(text: &str, how: LogQuery) -> Option<Cow<'_, str>> {
    match how {
        _ if text.is_empty() => None,
        LogQuery::Off => None,
        LogQuery::Full => Some(Cow::Borrowed(text)),
        LogQuery::Masked => {
            let parts: Vec<_> = text.split('&').map(parameter).collect();
            Some(Cow::Owned(parts.join("&")))
        }
    }
}

/// A `Referer`: credentials and query as in a target, the fragment left out.
pub(super) fn referer(text: &str, how: LogQuery) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (before, values) = text.split_once('?').unwrap_or((text, ""));
    let mut out = path(before).into_owned();
    if let Some(values) = query(values, how) {
        out.push('?');
        out.push_str(&values);
    }
    out
}

/// `name=*`, or `*` where nothing says that the front is only a name: ActiveSync sends base64
/// with its padding, RPC over HTTP a server, others a bare ticket.
fn parameter(text: &str) -> Cow<'_, str> {
    let name = |c: char| c.is_ascii_alphanumeric() || "_-.$~[]".contains(c);
    match text.split_once('=') {
        Some((front, value))
            if !front.is_empty()
                && front.len() <= NAME
                && front.chars().all(name)
                && !matches!(value, "" | "=") =>
        {
            Cow::Owned(format!("{front}=*"))
        }
        _ if text.is_empty() => Cow::Borrowed(""),
        _ => Cow::Borrowed("*"),
    }
}

/// A segment in which ASP.NET finds a cookieless session, sign-in or profile.
fn is_ticket(segment: &str) -> bool {
    let plain = segment.replace("%28", "(").replace("%29", ")");
    let Some(inner) = plain.strip_prefix('(').and_then(|s| s.strip_suffix(')')) else {
        return false;
    };
    inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '%') && inner.contains('(')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_told() {
        for (sent, told) in [
            ("/meet/bob/1", "/meet/bob/1"),
            ("/a@b/c", "/a@b/c"),
            ("http://jo:secret@a.contoso.com/x", "http://*@a.contoso.com/x"),
            ("//jo:secret@a.contoso.com/x", "//*@a.contoso.com/x"),
            ("jo:se@cret@a.contoso.com:443", "*@a.contoso.com:443"),
            ("/go/https://jo:secret@b/x", "/go/https://*@b/x"),
            ("/app/(S(secret))/x.aspx", "/app/(*)/x.aspx"),
            ("/app/%28F%28secret%29S(b)%29/x", "/app/(*)/x"),
            ("/wiki/Front_(End)", "/wiki/Front_(End)"),
            ("/wiki/(End)", "/wiki/(End)"),
            ("*", "*"),
        ] {
            assert_eq!(path(sent), told, "{sent}");
        }
        for how in [LogQuery::Masked, LogQuery::Full, LogQuery::Off] {
            let told = referer("https://jo:secret@a/(S(secret))/x?a=1#id_token=secret", how);
            assert!(told.starts_with("https://*@a/(*)/x") && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn names_of_parameters_stay_and_values_do_not() {
        for (sent, told) in [
            ("a=1&b=two", "a=*&b=*"),
            ("sl=1&ticket=c2VjcmV0==", "sl=*&ticket=*"),
            ("%24filter=x&$top=5&x[]=1", "*&$top=*&x[]=*"),
            // ActiveSync, RPC over HTTP, a bare word.
            ("jAAJBAp2MTQwRGV2aWNlAApTbWFydA==", "*"),
            ("jAAJBAp2MTQwRGV2aWNlAApTbWFydA=", "*"),
            ("exch01.contoso.local:6001", "*"),
            ("secret", "*"),
            ("=secret", "*"),
            ("a&b=1", "*&b=*"),
            ("a=1&&b=2", "a=*&&b=*"),
            ("a=b=c?d=e", "a=*"),
            ("a;b=secret", "*"),
        ] {
            assert_eq!(query(sent, LogQuery::Masked).unwrap(), told, "{sent}");
            assert_eq!(query(sent, LogQuery::Full).unwrap(), sent);
            assert_eq!(query(sent, LogQuery::Off), None);
        }
        assert_eq!(query("", LogQuery::Masked), None);
        let long = format!("{}=1", "x".repeat(NAME + 1));
        assert_eq!(query(&long, LogQuery::Masked).unwrap(), "*");
    }

    #[test]
    fn a_referer_is_told_as_far_as_its_query() {
        let sent = "https://a.contoso.com/x?user=jo&t=1";
        assert_eq!(referer(sent, LogQuery::Masked), "https://a.contoso.com/x?user=*&t=*");
        assert_eq!(referer(sent, LogQuery::Full), sent);
        assert_eq!(referer(sent, LogQuery::Off), "https://a.contoso.com/x");
    }
}
