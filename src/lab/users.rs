//! Who may sign in with Windows authentication, and with which password.

use std::{collections::HashMap, fmt::Write as _};

use anyhow::{Result, bail};

use crate::lab::tickets::PASSWORD;

/// How many numbered users there are beside alice and bob.
const NUMBERED: usize = 250;

/// The users of the lab; letter case does not matter in a name.
#[derive(Clone, Debug)]
pub(super) struct Users(HashMap<String, User>);

/// A user as the file has it.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: String,
}

impl Users {
    /// Reads lines `name:password`; empty lines and those with `#` in front do not count.
    ///
    /// # Errors
    /// When a line has no name or no password, or a name comes twice.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let (name, password) = match line.split_once(':') {
                Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                    (name, password)
                }
                _ => bail!("line {number}: name:password is needed"),
            };
            let user = User { name: name.into(), password: password.into() };
            if users.insert(name.to_lowercase(), user).is_some() {
                bail!("line {number}: {name} is there already");
            }
        }
        Ok(Self(users))
    }

    pub(super) fn find(&self, name: &str) -> Option<&User> {
        self.0.get(&name.to_lowercase())
    }
}

/// The file of a new lab.
pub(super) fn text() -> String {
    let mut out = String::from("# Users for Windows authentication, read when the lab starts.\n");
    for name in ["alice", "bob"] {
        let _ = writeln!(out, "{name}:{PASSWORD}");
    }
    for number in 1..=NUMBERED {
        let _ = writeln!(out, "user{number:03}:{PASSWORD}{number:03}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_has_everybody_with_a_password_of_their_own() {
        let users = Users::parse(&text()).unwrap();
        assert_eq!(users.0.len(), 252);
        assert_eq!(users.find("ALICE").unwrap().name, "alice");
        assert_eq!(users.find("alice").unwrap().password, PASSWORD);
        assert_eq!(users.find("user007").unwrap().password, "Passw0rd!007");
        assert_ne!(
            users.find("user250").unwrap().password,
            users.find("user001").unwrap().password
        );
        assert!(users.find("user251").is_none());
    }

    #[test]
    fn a_password_may_have_colons_and_faults_are_named_by_line() {
        let users = Users::parse("# me\n\ncarol:a:b\n").unwrap();
        assert_eq!(users.find("carol").unwrap().password, "a:b");
        for text in ["\ncarol", "\ncarol:", "\n:x", "x:1\nX:2"] {
            let error = Users::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("line 2"), "{error}");
        }
    }
}
