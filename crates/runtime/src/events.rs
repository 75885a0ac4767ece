//! Events: log lines with an id that stays the same, for scripts, alerts and `journalctl -x`.
//!
//! Those that protocol.md §6 lists are contract lines, whose text is part of the interface too: a test compares it, and
//! nothing else in the program may spell it. In the journal an event has its id as `MESSAGE_ID`; the catalogue
//! explains each.

use std::fmt;

/// One event. Log it as `message_id = event.id` and `"{event}"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// A UUID as 32 hexadecimal digits, never used for anything else.
    pub id: &'static str,
    /// The line.
    pub text: &'static str,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $id:literal $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Event = Event { id: $id, text: $text };)*
        /// Every event.
        pub const TABLE: &[Event] = &[$($name),*];
    };
}

events! {
    /// A gateway begins to start.
    GATEWAY_STARTING = "e5b9173eeb274d1ca0ab8713bf243364" "Starting gateway";
    /// A gateway dials a relay; the relay's name and host follow.
    GATEWAY_CONNECTING = "281c7678ced14354ad89988d24b61abd" "Connecting to relay server";
    /// A relay accepted the gateway.
    GATEWAY_TUNNEL_UP = "8acc798242f84bd8ae360a07e493b108" "Relay connection established for gateway";
    /// The platform issued the credentials of a relay that registers itself.
    RELAY_REGISTERED = "90ec80a42092410984303bdf7241c08d" "Successfully registered relay and received certificates from API";
    /// The platform issued the credentials of an enrolled relay.
    RELAY_CONNECTED = "c031a9779d234e8a80819488b43f3a93" "Successfully connected relay and received certificates via v2 API";
    /// The relay accepts gateways on its own port.
    RELAY_SSH_LISTENING = "34733fd40ac941ff802f780a9ea13d58" "SSH server listening on :2222 for gateways";
    /// The relay accepts clients on its own port.
    RELAY_TLS_LISTENING = "2122a86b3e024e05b2f6b4ae6d18f92e" "TLS server listening on :8443 for clients";
    /// The gateway's first tunnel is up.
    GATEWAY_STARTED = "b043ea7127b24e7da4e5351c77d67d07" "Gateway started successfully";
    /// The platform issued the gateway's credentials.
    GATEWAY_REGISTERED = "2f522ea059514b94b52bb7b0e40b0413" "Successfully registered gateway and received certificates";
    /// A heartbeat succeeded: the platform reached this gateway through the relay.
    GATEWAY_REACHABLE = "26a33608608b4dddaa04633596cb9a07" "Gateway is reachable by Infisical";
    /// The relay listens and has its credentials.
    RELAY_STARTED = "7baece8247d3405a9f843b03bf1f0ffa" "Relay server started successfully";
    /// A heartbeat succeeded: the platform reached this relay.
    RELAY_REACHABLE = "2f9884920a094350b74af296270f90dd" "Relay is reachable by Infisical";
    /// An attempt to get a tunnel failed, or the tunnel that was up ended.
    NOT_CONNECTED = "24029908bfaa43f8b7ab3cfab59a594d" "not connected; trying again";
    /// The platform has refused a gateway that has worked ten times in a row.
    REFUSED = "078392fa490a480bb92fc43906344520" "the platform refuses this gateway; trying again, seldom";
    /// A tunnel is up that is not the first one.
    TUNNEL_UP_AGAIN = "2a79dd40a75443b28a73c2b364558f98" "the tunnel is up again";
    /// New certificates are in use.
    CREDENTIALS_RENEWED = "e6eb0bc2f62f4edc955541119a5c30dd" "credentials renewed";
    /// The platform gave no new certificates.
    CREDENTIALS_NOT_RENEWED = "e5fb9549ebd8435db02ed9c2259b8f5d" "credentials not renewed; the old ones are still in use";
    /// The platform did not reach this gateway, although its tunnel is up.
    HEARTBEAT_FAILED = "9fb11b642b97496894e55c171a10ad2d" "heartbeat failed; the tunnel stays up";
    /// The configuration was read again and is in use.
    RELOADED = "08b54b1e74ab419c88aacf925c07557f" "configuration reloaded";
    /// The configuration was read again and is wrong.
    RELOAD_REFUSED = "e4852657b6b04df8aa0005ac9a4c92b6" "configuration not reloaded; the old one is still in use";
    /// A task met a defect and ended, and nothing else did.
    TASK_PANICKED = "16c8ad8e22b04c05bb79b0a5ae5d52bb" "task panicked; this is a defect, please report it";
    /// A part of the role failed and was restarted.
    TASK_RESTARTED = "3dbd8002378d47f98f53215eee3c8a8d" "a task panicked and was started again; this is a defect, please report it";
    /// The supervisor does not answer: no more WATCHDOG=1 until it does.
    WATCHDOG_STALLED = "fca25b54a15a4859bd437b9db8021d98" "no progress; the service manager is not told that all is well";
    /// A one-time token bought an access token, which is in the configuration file.
    ENROLLED = "ae4bd0a0449c490290fd7cc78c45bdd1" "enrolled; the access token is saved";
    /// An attempt to enrol failed and may still succeed.
    NOT_ENROLLED = "d23c837d9ab64c0f8cb27a7e46f9a9f3" "not enrolled; trying again";
    /// A one-time token is spent, and what it bought is only in memory.
    NOT_KEPT = "ff4949c05b944055bc3cb37ccda1486a" "what the enrollment bought cannot be saved; trying again, do not stop this program";
    /// The gateway serves as many sessions as it may.
    TOO_MANY_SESSIONS = "8dab7012446a4d3dba324a7006490297" "too many sessions; a new one is refused";
    /// The platform gave a relay that starts no credentials.
    RELAY_NOT_REGISTERED = "55b1c870d9264993853585e4301db1bd" "not registered; trying again";
    /// The platform did not reach this relay, or not this relay the platform.
    RELAY_HEARTBEAT_FAILED = "e3c117df5bff454d80a890977147b910" "heartbeat failed; the relay goes on serving";
    /// A gateway proved itself to this relay.
    GATEWAY_CONNECTED = "85559e68e2ee4dbe92fbf352a7e14dbe" "gateway connected";
    /// A gateway proved itself while an older connection of it was there.
    GATEWAY_TOOK_OVER = "a3253460f5674edb83d8884e9faf4d0f" "gateway connected again; the new connection takes over";
    /// A gateway's connection to this relay ended.
    GATEWAY_DISCONNECTED = "a8f7b6efd3f947d9bbd27cae2f5f0b26" "gateway disconnected";
    /// Two live programs have one identity.
    GATEWAY_CONFLICT = "c4486ec657af4a6b90d2eceb7573c5bc" "two gateways use the same identity and push each other out; stop one of them";
    /// A gateway's certificate was not believed.
    GATEWAY_REFUSED = "3e031b29595c43e7a9783182ef37d302" "gateway refused";
    /// One organization's clients and gateways hold as much as they may.
    BUFFERS_SHORT = "5d0c8e61f7a14b92a3e47f6bd1c09e25" "an organization uses its share of the memory for buffers; its transfers slow down";
    /// A signal asked for the end: no more sessions, and the present ones may finish.
    STOPPING = "36464177ae264748891aca9a56abc7de" "stopping";
    /// The log file was to be opened again, and could not be.
    LOG_FILE_KEPT = "209a3158c11846efa3f66b43cdf2cf1c" "log file not reopened; the old one is still in use";
    /// The reader of the log did not read for a while.
    LOG_LINES_LOST = "1a2a3d759e5544ccaecd88120af03f10" "log lines are missing here; the reader of the log was too slow";
    /// The platform's answers are dated otherwise than this machine would date them.
    CLOCK_SKEWED = "33ed4cdd4e0c4980a0eea269ce2ec7b2" "this machine's clock disagrees with the platform's";
    /// They are not any more.
    CLOCK_RIGHT = "4468f8b5d83e4838beff8673917065c5" "this machine's clock agrees with the platform's again";
    /// The process could not give up what it does not need to be allowed.
    CAPABILITIES_LEFT = "fdfd03af869444df91698122495543aa" "capabilities are left that are not needed";
    /// The error that ends the program.
    FAILED = "1765bb0f0c99441788830fa5953c6a75" "infisical failed";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::TABLE;

    #[test]
    fn ids_are_message_ids_and_nothing_is_there_twice() {
        let ids: HashSet<_> = TABLE.iter().map(|event| event.id).collect();
        let texts: HashSet<_> = TABLE.iter().map(|event| event.text).collect();
        assert!(!TABLE.is_empty() && ids.len() == TABLE.len() && texts.len() == TABLE.len());
        let is_hex = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.chars().all(is_hex))
        );
    }
}
