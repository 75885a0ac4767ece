//! The layers that are checked, and what a check finds.

use serde_json::{Value, json};

/// Longest text that is shown, in characters: of a chain of certificates, for instance.
const MAX_SHOWN: usize = 4000;

/// A layer between this machine and a role that works.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// A word that stays the same.
    pub(super) id: &'static str,
    /// For a person.
    pub(super) title: &'static str,
}

macro_rules! layers {
    ($($name:ident: $id:literal, $title:literal;)*) => {
        $(pub(super) static $name: Layer = Layer { id: $id, title: $title };)*
        /// Every layer, in the order of the output.
        #[cfg(test)]
        pub(super) static LAYERS: &[&Layer] = &[$(&$name),*];
    };
}

layers! {
    CONFIGURATION: "configuration", "configuration";
    SETTINGS: "settings", "effective settings";
    DISK: "disk", "disk";
    UNIT: "unit", "systemd unit";
    HARDENED: "hardened", "sandbox of the unit";
    RUNNING: "running", "running process";
    CREDENTIALS: "credentials", "copy of the settings";
    RELOAD: "reload", "newest configuration";
    PLATFORM_DNS: "platform-dns", "platform: DNS";
    PROXY: "proxy", "platform: proxy";
    PLATFORM_TCP: "platform-tcp", "platform: TCP";
    PLATFORM_TLS: "platform-tls", "platform: TLS";
    PLATFORM_ANSWER: "platform-answer", "platform: answer";
    CLOCK: "clock", "clock";
    TOKEN: "token", "token";
    REGISTRATION: "registration", "registration";
    RELAY_DNS: "relay-dns", "relay: DNS";
    RELAY_SSH: "relay-ssh", "relay: TCP 2222";
    RELAY_TLS: "relay-tls", "relay: TCP 8443";
    HOST_CERTIFICATE: "host-certificate", "relay: host certificate";
    SERVING: "tunnel", "tunnel";
    HEARTBEAT: "heartbeat", "heartbeat";
    TARGET_DNS: "target-dns", "target: DNS";
    TARGET_TCP: "target-tcp", "target: TCP";
    DESCRIPTORS: "descriptors", "open descriptors";
    MEMORY: "memory", "memory";
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is wrong, as the detail says; lines after its first are for JSON only.
    Good(String),
    /// Something is wrong.
    Failed(Fault),
    /// It was not checked.
    Skipped {
        because: String,
        /// The layer that failed first, if that is why.
        failed: Option<&'static Layer>,
    },
}

/// Something that is wrong. No part holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// What was seen.
    pub(super) detail: String,
    /// What it comes from, in one sentence.
    pub(super) cause: String,
    /// What to change, in one sentence.
    pub(super) fix: String,
}

impl Fault {
    pub(super) fn new(
        detail: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            detail: detail.into(),
            cause: cause.into(),
            fix: fix.into(),
        }
    }
}

/// A layer, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) layer: &'static Layer,
    pub(super) outcome: Outcome,
}

impl Check {
    pub(super) fn good(layer: &'static Layer, detail: impl Into<String>) -> Self {
        let outcome = Outcome::Good(detail.into());
        Self { layer, outcome }
    }

    pub(super) fn failed(layer: &'static Layer, fault: Fault) -> Self {
        let outcome = Outcome::Failed(fault);
        Self { layer, outcome }
    }

    /// Not checked for a reason that is no failure.
    pub(super) fn skipped(layer: &'static Layer, because: impl Into<String>) -> Self {
        let because = because.into();
        let outcome = Outcome::Skipped {
            because,
            failed: None,
        };
        Self { layer, outcome }
    }

    /// Not checked because the layer `failed`.
    fn blocked(layer: &'static Layer, failed: &'static Layer) -> Self {
        let outcome = Outcome::Skipped {
            because: format!("{} failed", failed.title),
            failed: Some(failed),
        };
        Self { layer, outcome }
    }

    /// The layer that failed first: this one, or one that it depends on.
    pub(super) fn root(&self) -> Option<&'static Layer> {
        match &self.outcome {
            Outcome::Good(_) => None,
            Outcome::Failed(_) => Some(self.layer),
            Outcome::Skipped { failed, .. } => *failed,
        }
    }

    /// True if nothing is known to be wrong, as far as was checked.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.outcome, Outcome::Good(_))
    }

    /// A failure that follows from one of `causes` is that one's, and so is what cannot be checked
    /// yet.
    pub(super) fn unless_caused_by(self, causes: &[&Self]) -> Self {
        let root = causes.iter().find_map(|cause| cause.root());
        match (&self.outcome, root) {
            (Outcome::Failed(_) | Outcome::Skipped { .. }, Some(root)) => {
                Self::blocked(self.layer, root)
            }
            (Outcome::Good(_) | Outcome::Failed(_) | Outcome::Skipped { .. }, _) => self,
        }
    }

    /// Replaces each text by what `change` makes of it.
    pub(super) fn change_texts(&mut self, change: impl Fn(&str) -> String) {
        let texts: &mut [&mut String] = match &mut self.outcome {
            Outcome::Good(detail) => &mut [detail],
            Outcome::Failed(Fault { detail, cause, fix }) => &mut [detail, cause, fix],
            Outcome::Skipped { because, .. } => &mut [because],
        };
        for text in texts {
            **text = change(text);
        }
    }

    pub(super) fn json(&self) -> Value {
        let (status, mut detail, mut cause, mut fix, mut because) =
            (self.status(), None, None, None, None);
        match &self.outcome {
            Outcome::Good(text) => detail = Some(shown(text)),
            Outcome::Failed(fault) => {
                detail = Some(shown(&fault.detail));
                cause = Some(shown(&fault.cause));
                fix = Some(shown(&fault.fix));
            }
            Outcome::Skipped { because: why, .. } => because = Some(shown(why)),
        }
        json!({
            "id": self.layer.id, "status": status, "detail": detail,
            "cause": cause, "fix": fix, "because": because,
        })
    }

    fn status(&self) -> &'static str {
        match self.outcome {
            Outcome::Good(_) => "ok",
            Outcome::Failed(_) => "failed",
            Outcome::Skipped { .. } => "skipped",
        }
    }
}

/// `text` on one line, without what a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' => ';',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().take(MAX_SHOWN).map(safe).collect()
}

/// `layer` is not checked if one of `needs` failed, or was not checked because of a failure.
pub(super) fn blocked(layer: &'static Layer, needs: &[&Check]) -> Option<Check> {
    let root = needs.iter().find_map(|need| need.root())?;
    Some(Check::blocked(layer, root))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{
        CLOCK, Check, Fault, LAYERS, PLATFORM_DNS, PLATFORM_TCP, PLATFORM_TLS, TOKEN, blocked,
    };

    #[test]
    fn ids_are_unique() {
        let ids: HashSet<_> = LAYERS.iter().map(|layer| layer.id).collect();
        assert_eq!(ids.len(), LAYERS.len());
    }

    #[test]
    fn dependents_name_the_first_failure() {
        let failed = Check::failed(&PLATFORM_DNS, Fault::new("d", "c", "f"));
        let tcp = blocked(&PLATFORM_TCP, &[&failed]).expect("blocked");
        let tls = blocked(&PLATFORM_TLS, &[&tcp]).expect("blocked");
        assert_eq!(tls.root(), Some(&PLATFORM_DNS));
        let json = tls.json();
        assert_eq!(json["status"], "skipped");
        assert_eq!(json["because"], "platform: DNS failed");
        let token = Check::failed(&TOKEN, Fault::new("d", "c", "f"));
        assert_eq!(
            token.clone().unless_caused_by(&[&tls]).root(),
            Some(&PLATFORM_DNS)
        );
        let fine = Check::skipped(&CLOCK, "unknown");
        assert_eq!(blocked(&PLATFORM_TCP, &[&fine]), None);
        assert_eq!(token.clone().unless_caused_by(&[&fine]), token);
    }
}
