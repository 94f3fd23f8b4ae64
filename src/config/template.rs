//! Variables in texts: `{R:1}`, `{C:1}`, `{QUERY_STRING}`.

/// A piece of a text with variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it stands there.
    Text(&'a str),
    /// What stands between the braces: a name, maybe with `:` and a number.
    Variable(&'a str),
}

/// Takes a text apart. Braces around anything else than a variable's name belong to the text, so
/// that a header can hold JSON.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut rest, mut from) = (text, 0);
    while let Some(at) = rest.get(from..).and_then(|tail| tail.find('{')).map(|at| at + from) {
        let inner = rest.get(at + 1..).unwrap_or_default();
        let found = inner.split_once('}').filter(|(name, _)| is_variable(name));
        let Some((name, after)) = found else {
            from = at + 1;
            continue;
        };
        if let Some(before) = rest.get(..at).filter(|before| !before.is_empty()) {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Variable(name));
        (rest, from) = (after, 0);
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// The text with each variable replaced by the letter `x`: what remains to be checked of it.
pub fn outline(text: &str) -> String {
    let shown = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Variable(_) => "x",
    };
    pieces(text).into_iter().map(shown).collect()
}

fn is_variable(name: &str) -> bool {
    let (word, number) = name.split_once(':').unwrap_or((name, "0"));
    !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_and_other_braces_left() {
        use Piece::{Text, Variable};
        let cases: [(&str, &[Piece<'_>]); 6] = [
            ("", &[]),
            ("/a", &[Text("/a")]),
            ("/a/{R:1}", &[Text("/a/"), Variable("R:1")]),
            ("{URL}{c:12}x", &[Variable("URL"), Variable("c:12"), Text("x")]),
            ("{\"a\":{R:1}}", &[Text("{\"a\":"), Variable("R:1"), Text("}")]),
            ("{{}{R:}{:1}{a b}{", &[Text("{{}{R:}{:1}{a b}{")]),
        ];
        for (text, expected) in cases {
            assert_eq!(pieces(text), expected, "{text}");
        }
        assert_eq!(outline("https://h/{R:1}?{C:2}"), "https://h/x?x");
    }
}
