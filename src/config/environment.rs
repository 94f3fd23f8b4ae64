//! `${NAME}` in scalars: taken from the environment after parsing, so that a value can never
//! change the structure of the file.

use std::collections::BTreeMap;

use crate::config::{
    code,
    diagnostic::Findings,
    node::{Node, Scalar, Value},
};

/// Looks a variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of a configuration.
pub struct Environment<'a> {
    lookup: Lookup<'a>,
    /// What was taken.
    pub taken: BTreeMap<String, String>,
}

impl<'a> Environment<'a> {
    /// Variables from `lookup`.
    pub fn new(lookup: Lookup<'a>) -> Self {
        Self { lookup, taken: BTreeMap::new() }
    }

    /// Inserts variables everywhere under `node`.
    pub fn insert(&mut self, node: &mut Node, findings: &mut Findings) {
        match &mut node.value {
            Value::Broken | Value::Null => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.insert(item, findings)),
            Value::Map(entries) => {
                entries.iter_mut().for_each(|entry| self.insert(&mut entry.value, findings));
            }
            Value::Scalar(scalar) if !scalar.text.contains("${") => {}
            Value::Scalar(scalar) => match self.expand(&scalar.text) {
                Ok((text, taken)) => {
                    // Also for an escape: what is shown must parse again.
                    let raw = (taken || text != scalar.text).then(|| scalar.text.as_str().into());
                    *scalar = Scalar { text, raw };
                }
                Err((message, help)) => {
                    findings.add(code::ENVIRONMENT, &node.mark, message).help(help);
                    node.value = Value::Broken;
                }
            },
        }
    }

    /// The text with variables inserted, and whether there were any; or message and help.
    fn expand(&mut self, text: &str) -> Result<(String, bool), (String, String)> {
        let mut out = String::new();
        let mut rest = text;
        let mut taken = false;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let literal = || "write `$${` for a literal `${`".to_string();
            let Some((name, behind)) = after.split_once('}') else {
                return Err(("`${` is not closed".to_string(), literal()));
            };
            if !is_name(name) {
                return Err((format!("`{name}` is not the name of a variable"), literal()));
            }
            let Some(value) = (self.lookup)(name) else {
                let help = format!("set it where Frontgate is started, for example: {name}=…");
                return Err((format!("environment variable `{name}` is not set"), help));
            };
            out.push_str(&value);
            self.taken.insert(name.to_string(), value);
            taken = true;
            rest = behind;
        }
        out.push_str(rest);
        Ok((out, taken))
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<(String, bool), (String, String)> {
        let lookup = |name: &str| (name == "FE").then(|| "fe01${X}".to_string());
        Environment::new(&lookup).expand(text)
    }

    #[test]
    fn variables_are_inserted_once() {
        // What the environment says is not expanded again.
        assert_eq!(expand("a ${FE} b").unwrap(), ("a fe01${X} b".to_string(), true));
        assert_eq!(expand("$${FE} $ {").unwrap(), ("${FE} $ {".to_string(), false));
        assert_eq!(expand("$$${FE}").unwrap(), ("$${FE}".to_string(), false));
    }

    #[test]
    fn missing_and_malformed_variables_are_told() {
        assert!(expand("${NOPE}").unwrap_err().0.contains("`NOPE` is not set"));
        assert!(expand("${FE").unwrap_err().0.contains("not closed"));
        assert!(expand("${}").is_err() && expand("${a-b}").is_err() && expand("${1}").is_err());
    }
}
