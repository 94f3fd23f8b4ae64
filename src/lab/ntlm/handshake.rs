//! The state of one TCP connection: a pure function of what came before and of `Authorization`.

use boring::base64;

use super::{
    Wrapping,
    messages::{Authenticate, Names, challenge, negotiate},
    proof,
    spnego::{self, State, Token},
    wire::SIGNATURE,
};
use crate::lab::users::Users;

/// How far the caller of a TCP connection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::lab) enum Handshake {
    /// Nobody yet, or nobody any more.
    #[default]
    Anonymous,
    /// The client prefers a mechanism we lack and was told to go on with NTLM.
    Selected,
    /// This challenge waits for its answer.
    Challenged([u8; 8], Wrapping),
    /// The connection is this user, `DOMAIN\name`, until it closes or a handshake begins.
    SignedIn(String),
}

/// What a request for something protected gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) enum Verdict {
    /// 401 with this one `WWW-Authenticate`.
    Continue(String),
    /// The request itself, as this user; with this `WWW-Authenticate` where the mechanism has a
    /// last word.
    Serve { user: String, last: Option<String> },
    /// 401 with the offers.
    Refuse,
}

/// What a step needs beside the connection.
pub(in crate::lab) struct Server<'a> {
    pub(in crate::lab) names: &'a Names,
    pub(in crate::lab) users: &'a Users,
    /// Unpredictable, new for each step.
    pub(in crate::lab) random: [u8; 8],
    /// FILETIME.
    pub(in crate::lab) now: u64,
}

impl Handshake {
    /// The user this connection is, as `DOMAIN\name`.
    pub(in crate::lab) fn user(&self) -> Option<&str> {
        match self {
            Self::SignedIn(user) => Some(user),
            _ => None,
        }
    }

    /// Takes the `Authorization` of a request for something protected.
    ///
    /// As IIS has it: without one the request is whoever the connection is; a new type 1 starts
    /// over, also on a connection that is somebody; a type 3 counts only as the answer to the
    /// challenge that this connection got last, and only once.
    pub(in crate::lab) fn step(
        &mut self,
        authorization: Option<&str>,
        server: &Server<'_>,
    ) -> Verdict {
        let Some(value) = authorization else {
            return match self.user() {
                Some(user) => Verdict::Serve { user: user.to_owned(), last: None },
                None => Verdict::Refuse,
            };
        };
        let scheme = value.trim().split(' ').next().unwrap_or_default();
        if !["NTLM", "Negotiate"].iter().any(|ours| scheme.eq_ignore_ascii_case(ours)) {
            return Verdict::Refuse;
        }
        let before = std::mem::take(self);
        let Some((wrapping, token)) = Message::new(value) else { return Verdict::Refuse };
        let (after, verdict) = match (token, before) {
            (Message::Other, _) => (Self::Selected, selected(wrapping)),
            (Message::Ntlm(message, first), before) => {
                if let Some(offered) = negotiate(&message) {
                    if !first && before != Self::Selected {
                        return Verdict::Refuse;
                    }
                    let reply = challenge(offered, server.random, server.names, server.now);
                    let after = Self::Challenged(server.random, wrapping);
                    (after, Verdict::Continue(header(wrapping, &reply, first)))
                } else if let Self::Challenged(challenge, expected) = before
                    && expected == wrapping
                    && let Some(user) = signed_in(&message, challenge, server)
                {
                    (Self::SignedIn(user.clone()), Verdict::Serve { user, last: last(wrapping) })
                } else {
                    (Self::Anonymous, Verdict::Refuse)
                }
            }
        };
        *self = after;
        verdict
    }
}

/// What `Authorization` carries.
enum Message {
    /// An NTLM message, and whether it is the first of its negotiation.
    Ntlm(Vec<u8>, bool),
    /// An offer of several mechanisms, NTLM not the first.
    Other,
}

impl Message {
    fn new(value: &str) -> Option<(Wrapping, Self)> {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = base64::decode_block(token.trim()).ok()?;
        if scheme.eq_ignore_ascii_case("NTLM") {
            return Some((Wrapping::Ntlm, Self::Ntlm(token, true)));
        }
        if !scheme.eq_ignore_ascii_case("Negotiate") {
            return None;
        }
        if token.starts_with(SIGNATURE) {
            return Some((Wrapping::Negotiate, Self::Ntlm(token, true)));
        }
        let message = match Token::new(&token)? {
            Token::Init { mechanisms, .. } if !mechanisms.contains(&spnego::NTLM) => return None,
            // A token is for the first mechanism, but some clients send NTLM's whatever the list.
            Token::Init { token: Some(inner), .. } if inner.starts_with(SIGNATURE) => {
                Self::Ntlm(inner.to_vec(), true)
            }
            Token::Init { .. } => Self::Other,
            Token::Response { token } => Self::Ntlm(token?.to_vec(), false),
        };
        Some((Wrapping::Spnego, message))
    }
}

/// The user whose password the type 3 shows, as `DOMAIN\name`.
fn signed_in(message: &[u8], challenge: [u8; 8], server: &Server<'_>) -> Option<String> {
    let message = Authenticate::new(message)?;
    let Names { netbios_domain, dns_domain, .. } = server.names;
    let name = match message.user.split_once('@') {
        // user@domain comes without a domain of its own.
        Some((name, _)) if message.domain.is_empty() => name,
        _ => &message.user,
    };
    let ours = ["", netbios_domain, dns_domain];
    if !ours.iter().any(|domain| message.domain.eq_ignore_ascii_case(domain)) {
        return None;
    }
    let user = server.users.find(name)?;
    proof::holds(&message, &user.password, challenge)
        .then(|| format!("{netbios_domain}\\{}", user.name))
}

fn selected(wrapping: Wrapping) -> Verdict {
    let token = spnego::response(Some(State::Incomplete), Some(spnego::NTLM), None);
    Verdict::Continue(format!("{} {}", wrapping.scheme(), base64::encode_block(&token)))
}

/// `WWW-Authenticate` with a type 2; only the first reply of SPNEGO names the mechanism.
fn header(wrapping: Wrapping, message: &[u8], first: bool) -> String {
    let mechanism = first.then_some(spnego::NTLM);
    let wrapped = match wrapping {
        Wrapping::Ntlm | Wrapping::Negotiate => message.to_vec(),
        Wrapping::Spnego => spnego::response(Some(State::Incomplete), mechanism, Some(message)),
    };
    format!("{} {}", wrapping.scheme(), base64::encode_block(&wrapped))
}

fn last(wrapping: Wrapping) -> Option<String> {
    let token = spnego::response(Some(State::Completed), None, None);
    (wrapping == Wrapping::Spnego)
        .then(|| format!("{} {}", wrapping.scheme(), base64::encode_block(&token)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Client, *};
    use crate::lab::users;

    const EVERY: [Wrapping; 3] = [Wrapping::Ntlm, Wrapping::Negotiate, Wrapping::Spnego];

    struct Fixture {
        names: Names,
        users: Users,
    }

    impl Fixture {
        fn new() -> Self {
            let names = Names {
                netbios_domain: "CONTOSO".into(),
                netbios_computer: "FE01".into(),
                dns_domain: "contoso.local".into(),
                dns_computer: "fe01.contoso.local".into(),
            };
            Self { names, users: Users::parse(&users::text()).unwrap() }
        }

        /// One step with a random number of its own.
        fn step(&self, state: &mut Handshake, authorization: Option<&str>) -> Verdict {
            let mut random = [0; 8];
            boring::rand::rand_bytes(&mut random).unwrap();
            let server = Server { names: &self.names, users: &self.users, random, now: 1 };
            state.step(authorization, &server)
        }

        /// Type 1; what the server says.
        fn begin(&self, state: &mut Handshake, client: &Client, wrapping: Wrapping) -> String {
            match self.step(state, Some(&client.first(wrapping))) {
                Verdict::Continue(value) => value,
                other => panic!("{wrapping:?}: {other:?}"),
            }
        }

        /// Type 1 and type 3.
        fn sign_in(&self, state: &mut Handshake, client: &Client, wrapping: Wrapping) -> Verdict {
            let challenge = self.begin(state, client, wrapping);
            self.step(state, Some(&client.second(wrapping, &challenge).unwrap()))
        }
    }

    fn alice() -> Client {
        Client::new("alice", "CONTOSO", "Passw0rd!")
    }

    #[test]
    fn a_good_type_3_signs_the_connection_in_until_a_new_type_1() {
        let fixture = Fixture::new();
        for wrapping in EVERY {
            let mut state = Handshake::default();
            assert_eq!(fixture.step(&mut state, None), Verdict::Refuse);
            let verdict = fixture.sign_in(&mut state, &alice(), wrapping);
            let Verdict::Serve { user, last } = verdict else { panic!("{verdict:?}") };
            assert_eq!(user, "CONTOSO\\alice");
            assert_eq!(last.is_some(), wrapping == Wrapping::Spnego);
            let again = fixture.step(&mut state, None);
            assert_eq!(again, Verdict::Serve { user, last: None });
            fixture.begin(&mut state, &alice(), wrapping);
            assert_eq!(state.user(), None);
            assert_eq!(fixture.step(&mut state, None), Verdict::Refuse);
        }
    }

    #[test]
    fn names_may_come_in_any_case_and_form_of_the_domain() {
        let fixture = Fixture::new();
        for (user, domain, good) in [
            ("ALICE", "contoso", true),
            ("alice", "Contoso.Local", true),
            ("Alice", "", true),
            ("alice@contoso.com", "", true),
            ("alice", "FABRIKAM", false),
            ("mallory", "CONTOSO", false),
        ] {
            let client = Client::new(user, domain, "Passw0rd!");
            let mut state = Handshake::default();
            fixture.sign_in(&mut state, &client, Wrapping::Ntlm);
            assert_eq!(state.user(), good.then_some("CONTOSO\\alice"), "{domain}\\{user}");
        }
    }

    #[test]
    fn a_wrong_password_leaves_the_connection_anonymous() {
        let fixture = Fixture::new();
        let mut state = Handshake::default();
        fixture.sign_in(&mut state, &alice(), Wrapping::Ntlm);
        let wrong = Client::new("alice", "CONTOSO", "Passw0rd?");
        assert_eq!(fixture.sign_in(&mut state, &wrong, Wrapping::Ntlm), Verdict::Refuse);
        assert_eq!(state, Handshake::Anonymous);
    }

    #[test]
    fn a_type_3_counts_once_and_only_on_the_connection_of_its_challenge() {
        let fixture = Fixture::new();
        for wrapping in EVERY {
            let (mut one, mut two) = (Handshake::default(), Handshake::default());
            let challenge = fixture.begin(&mut one, &alice(), wrapping);
            fixture.begin(&mut two, &alice(), wrapping);
            let third = alice().second(wrapping, &challenge).unwrap();
            assert_eq!(fixture.step(&mut two, Some(&third)), Verdict::Refuse);
            assert!(matches!(fixture.step(&mut one, Some(&third)), Verdict::Serve { .. }));
            assert_eq!(fixture.step(&mut one, Some(&third)), Verdict::Refuse);
            assert_eq!(one.user(), None);
            let mut fresh = Handshake::default();
            assert_eq!(fixture.step(&mut fresh, Some(&third)), Verdict::Refuse);
        }
    }

    #[test]
    fn a_type_3_in_another_scheme_than_its_challenge_is_refused() {
        let fixture = Fixture::new();
        let mut state = Handshake::default();
        let challenge = fixture.begin(&mut state, &alice(), Wrapping::Negotiate);
        let third = alice().second(Wrapping::Negotiate, &challenge).unwrap();
        let third = third.replace("Negotiate", "NTLM");
        assert_eq!(fixture.step(&mut state, Some(&third)), Verdict::Refuse);
    }

    #[test]
    fn a_client_that_prefers_kerberos_is_told_to_use_ntlm() {
        let kerberos = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02][..];
        let fixture = Fixture::new();
        let negotiate = |token: &[u8]| format!("Negotiate {}", base64::encode_block(token));
        let mut state = Handshake::default();
        let only = negotiate(&spnego::init(&[kerberos], b"ticket"));
        assert_eq!(fixture.step(&mut state, Some(&only)), Verdict::Refuse);
        let both = negotiate(&spnego::init(&[kerberos, spnego::NTLM], b"ticket"));
        assert!(matches!(fixture.step(&mut state, Some(&both)), Verdict::Continue(_)));
        let first = negotiate(&spnego::response(None, None, Some(&alice().negotiate())));
        let Verdict::Continue(challenge) = fixture.step(&mut state, Some(&first)) else {
            panic!("{state:?}");
        };
        let third = alice().second(Wrapping::Spnego, &challenge).unwrap();
        assert!(matches!(fixture.step(&mut state, Some(&third)), Verdict::Serve { .. }));
    }

    #[test]
    fn other_schemes_and_rubbish_are_refused() {
        let fixture = Fixture::new();
        for value in ["", "NTLM", "NTLM !", "Basic YTpi", "Negotiate YWJj", "Negotiate oQMwAQA="] {
            let mut state = Handshake::default();
            assert_eq!(fixture.step(&mut state, Some(value)), Verdict::Refuse, "{value:?}");
        }
        let mut state = Handshake::default();
        fixture.sign_in(&mut state, &alice(), Wrapping::Ntlm);
        assert_eq!(fixture.step(&mut state, Some("Basic YTpi")), Verdict::Refuse);
        assert_eq!(state.user(), Some("CONTOSO\\alice"));
    }

    proptest! {
        #[test]
        fn no_token_panics_or_signs_in(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let fixture = Fixture::new();
            for scheme in ["NTLM", "Negotiate"] {
                let mut state = Handshake::default();
                fixture.begin(&mut state, &alice(), Wrapping::Ntlm);
                let value = format!("{scheme} {}", base64::encode_block(&bytes));
                fixture.step(&mut state, Some(&value));
                prop_assert_eq!(state.user(), None);
            }
        }
    }
}
