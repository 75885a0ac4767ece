//! Events: log lines with an id that never changes, for scripts, alerts and `journalctl -x`.
//!
//! The catalogue below is their only source: [`event!`](crate::event) takes id and level from it,
//! and the journal's catalogue and the table of docs/events.md are generated from it. Lines that
//! protocol.md §6 lists are contract lines, whose text is part of the interface too; a test
//! compares it, and nothing else in the program may spell it.

use std::fmt;

#[doc(hidden)]
pub use tracing;
pub use tracing::Level;

/// One event; [`event!`](crate::event) logs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// A UUID as 32 hexadecimal digits, never used for anything else; `MESSAGE_ID` in the journal.
    pub id: &'static str,
    /// What every entry has.
    pub level: Level,
    /// The line.
    pub text: &'static str,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// An event as it is explained to people.
#[derive(Debug)]
pub struct Entry {
    /// The event itself.
    pub event: Event,
    /// The roles that log it.
    pub roles: &'static str,
    /// What it means and why it happens; `@FIELD@` stands for a field of the entry.
    pub meaning: &'static str,
    /// What to do about it.
    pub action: &'static str,
}

/// Logs an event of the catalogue, with its id and at its level: `event!(events::NAME, field = 1)`
/// with fields as `tracing` has them, or `event!(events::NAME; " and {more}")` with more text
/// behind the line.
#[macro_export]
macro_rules! event {
    (@log $level:ident, $event:ident, $suffix:expr, { $($fields:tt)* }) => {
        $crate::events::tracing::$level!(
            { message_id = $event.id, $($fields)* }, "{}{}", $event, $suffix
        )
    };
    (@ $event:expr, $suffix:expr, $fields:tt) => {{
        let event: $crate::events::Event = $event;
        match event.level {
            $crate::events::Level::ERROR => $crate::event!(@log error, event, $suffix, $fields),
            $crate::events::Level::WARN => $crate::event!(@log warn, event, $suffix, $fields),
            $crate::events::Level::INFO => $crate::event!(@log info, event, $suffix, $fields),
            _ => $crate::event!(@log debug, event, $suffix, $fields),
        }
    }};
    ($event:expr; $($suffix:tt)+) => {
        $crate::event!(@ $event, format_args!($($suffix)+), {})
    };
    ($event:expr $(, $($fields:tt)*)?) => {
        $crate::event!(@ $event, "", { $($($fields)*)? })
    };
}

/// What to do about an event where its row does not say it.
const NO_ACTION: &str = "Nothing is to be done.";

macro_rules! catalogue {
    ($($name:ident = $level:ident $roles:literal $id:literal
        $text:literal $meaning:literal $($action:literal)?;)*) => {
        $(#[doc = $text] pub const $name: Event =
            Event { id: $id, level: Level::$level, text: $text };)*
        /// Every event.
        pub const CATALOGUE: &[Entry] = &[$(Entry {
            event: $name,
            roles: $roles,
            meaning: $meaning,
            action: [$($action,)? NO_ACTION][0],
        }),*];
    };
}

// A row is the name, the level, the roles, the id, the line, what it means, and what to do if there
// is something. The contract lines come first, in the order of the test that knows them.
catalogue! {
    GATEWAY_STARTING = INFO "gateway" "e5b9173eeb274d1ca0ab8713bf243364"
        "Starting gateway"
        "The gateway @GATEWAY_NAME@ starts. Next, it requests certificates from the platform.";
    GATEWAY_CONNECTING = INFO "gateway" "281c7678ced14354ad89988d24b61abd"
        "Connecting to relay server"
        "The gateway dials a relay."
        "Nothing is to be done. Either \"Relay connection established for gateway\" follows, or \
         the reason why the connection failed.";
    GATEWAY_TUNNEL_UP = INFO "gateway" "8acc798242f84bd8ae360a07e493b108"
        "Relay connection established for gateway"
        "The relay @RELAY_NAME@ at @RELAY_HOST@ has accepted the gateway, and clients can open \
         sessions.";
    RELAY_REGISTERED = INFO "relay" "90ec80a42092410984303bdf7241c08d"
        "Successfully registered relay and received certificates from API"
        "The platform knows the relay @RELAY_NAME@ and has issued its certificates.";
    RELAY_CONNECTED = INFO "relay" "c031a9779d234e8a80819488b43f3a93"
        "Successfully connected relay and received certificates via v2 API"
        "The platform knows the enrolled relay @RELAY_NAME@ and has issued its certificates, which \
         name its host.";
    RELAY_SSH_LISTENING = INFO "relay" "34733fd40ac941ff802f780a9ea13d58"
        "SSH server listening on :2222 for gateways"
        "The relay accepts gateways at @ADDRESS@.";
    RELAY_TLS_LISTENING = INFO "relay" "2122a86b3e024e05b2f6b4ae6d18f92e"
        "TLS server listening on :8443 for clients"
        "The relay accepts clients at @ADDRESS@.";
    GATEWAY_STARTED = INFO "gateway" "b043ea7127b24e7da4e5351c77d67d07"
        "Gateway started successfully"
        "The tunnel to the relay at @RELAY_HOST@ is up for the first time since this start, and \
         clients can open sessions."
        "Nothing is to be done. If \"Gateway is reachable by Infisical\" does not follow within a \
         few minutes, the platform cannot reach the gateway through the relay: see whether it \
         reaches port 8443 of the relay.";
    GATEWAY_REGISTERED = INFO "gateway" "2f522ea059514b94b52bb7b0e40b0413"
        "Successfully registered gateway and received certificates"
        "The platform knows this gateway (id @GATEWAY_ID@) and has issued its certificates for the \
         relay at @RELAY_HOST@."
        "Nothing is to be done. The tunnel to the relay comes next.";
    GATEWAY_REACHABLE = INFO "gateway" "26a33608608b4dddaa04633596cb9a07"
        "Gateway is reachable by Infisical"
        "A heartbeat succeeded: the platform has reached this gateway through the relay. The whole \
         path works.";
    RELAY_STARTED = INFO "relay" "7baece8247d3405a9f843b03bf1f0ffa"
        "Relay server started successfully"
        "The relay @RELAY_NAME@ has its certificates and accepts gateways and clients."
        "Nothing is to be done. If \"Relay is reachable by Infisical\" does not follow within a \
         few minutes, the platform does not reach this machine as @RELAY_HOST@: check firewalls, \
         the ports 2222 and 8443, and the name.";
    RELAY_REACHABLE = INFO "relay" "2f9884920a094350b74af296270f90dd"
        "Relay is reachable by Infisical"
        "A heartbeat succeeded: the platform has reached this relay at its address.";
    NOT_CONNECTED = WARN "gateway" "24029908bfaa43f8b7ab3cfab59a594d"
        "not connected; trying again"
        "The gateway has no tunnel: an attempt to connect failed, or the tunnel that was up ended. \
         Clients cannot open sessions until the next attempt, after the delay in this entry, \
         succeeds. The reason was:\n\n@ERROR@"
        "It retries by itself while a retry can help. If it goes on for minutes: look at the \
         reason; see whether this machine reaches the platform (port 443) and the relay (port \
         2222), and whether its clock is right.";
    REFUSED = ERROR "gateway" "078392fa490a480bb92fc43906344520"
        "the platform refuses this gateway; retrying less often"
        "The platform, or a proxy in front of it, has refused this gateway ten times in a row, \
         although the same credential worked before: @ERROR@"
        "The gateway retries every five minutes and recovers by itself if the platform accepts it \
         again. If the gateway was deleted or its token revoked, install it again with a new \
         token.";
    TUNNEL_UP_AGAIN = INFO "gateway" "2a79dd40a75443b28a73c2b364558f98"
        "the tunnel is up again"
        "The tunnel, now to the relay at @RELAY_HOST@, is up again after it was down."
        "Nothing is to be done. If it comes often, look at the reasons in the entries \"not \
         connected; trying again\" before it.";
    CREDENTIALS_RENEWED = INFO "gateway, relay" "e6eb0bc2f62f4edc955541119a5c30dd"
        "credentials renewed"
        "New certificates are in use. Live sessions were not interrupted.";
    CREDENTIALS_NOT_RENEWED = WARN "gateway, relay" "e5fb9549ebd8435db02ed9c2259b8f5d"
        "credentials not renewed; the old ones are still in use"
        "The platform issued no new certificates. The old ones are used until they expire; after \
         that the tunnel, or new connections to the relay, would fail. The reason was:\n\n@ERROR@"
        "It retries by itself, and there is time: renewal begins long before the certificates \
         expire. If it goes on for hours, make the platform reachable from this machine, or check \
         on the platform whether the identity was removed or lost its permissions.";
    HEARTBEAT_FAILED = WARN "gateway" "9fb11b642b97496894e55c171a10ad2d"
        "heartbeat failed; the tunnel stays up"
        "The tunnel is up, but the platform did not confirm that it reaches this gateway. Sessions \
         may work all the same. The reason was:\n\n@ERROR@"
        "If it goes on: see whether the platform is reachable from here, and whether it reaches \
         port 8443 of the relay.";
    RELOADED = INFO "gateway, relay" "08b54b1e74ab419c88aacf925c07557f"
        "configuration reloaded"
        "The configuration was read again and is in use. Live sessions were not interrupted, except \
         those of a gateway whose target a new policy does not allow.";
    RELOAD_REFUSED = ERROR "gateway, relay" "e4852657b6b04df8aa0005ac9a4c92b6"
        "configuration not reloaded; the old one is still in use"
        "The configuration was read again, but it is wrong. The service keeps the old one; a \
         restart would fail. The mistakes are:\n\n@ERROR@"
        "Correct the configuration file and reload the service again.";
    TASK_PANICKED = ERROR "all" "16c8ad8e22b04c05bb79b0a5ae5d52bb"
        "task panicked; this is a defect, please report it"
        "A task of the program panicked because of a defect and ended, most often one session. \
         Everything else continues."
        "Please report it, with the entries around this one.";
    TASK_RESTARTED = ERROR "gateway, relay" "3dbd8002378d47f98f53215eee3c8a8d"
        "task panicked and was restarted; this is a defect, please report it"
        "A task of the program panicked because of a defect and was restarted. Its work at that \
         moment was lost; other sessions were not affected."
        "Please report it, with the entries around this one. If it repeats, restart the service.";
    WATCHDOG_STALLED = ERROR "gateway, relay" "fca25b54a15a4859bd437b9db8021d98"
        "no progress; the watchdog of the service manager is not notified"
        "The program makes no progress, so it does not notify the watchdog of the service manager. \
         If this does not pass within WatchdogSec=, the service manager restarts the service."
        "Nothing is to be done at once. If it happens more than once, see whether the machine \
         lacks memory or processor time, and otherwise report it.";
    ENROLLED = INFO "gateway, relay" "ae4bd0a0449c490290fd7cc78c45bdd1"
        "enrolled; the access token is saved"
        "A one-time enrollment token was exchanged for an access token, which is stored in \
         @STORE@."
        "The enrollment token is spent and can be discarded. Keep the file private: its reader can \
         act as this gateway or relay.";
    NOT_ENROLLED = WARN "gateway, relay" "d23c837d9ab64c0f8cb27a7e46f9a9f3"
        "not enrolled; trying again"
        "The enrollment token could not be exchanged yet. The reason was:\n\n@ERROR@"
        "It retries by itself. See whether this machine reaches the platform; an enrollment token \
         is valid for one hour only.";
    TOKEN_NOT_SAVED = ERROR "gateway, relay" "ff4949c05b944055bc3cb37ccda1486a"
        "the access token cannot be saved; trying again, do not stop this program"
        "The one-time token is spent. The access token that was issued for it is in the memory of \
         this process only, because the configuration file could not be written:\n\n@ERROR@"
        "Make room on the disk, or make the file writable. The program retries by itself, and the \
         service then continues. If the program ends before, a new enrollment token is needed.";
    TOO_MANY_SESSIONS = WARN "gateway" "8dab7012446a4d3dba324a7006490297"
        "too many sessions; a new one is refused"
        "This gateway has as many open sessions as it accepts (@LIMIT@), so a new one was refused. \
         The open ones are not affected."
        "If these sessions are all wanted, run a second gateway for a part of the resources. If \
         not, find out who opens them.";
    TARGET_NOT_ALLOWED = WARN "gateway" "4caef379221b4ea5b35a9d76cb08d599"
        "target not allowed; the session is refused"
        "A session asked for the target @TARGET_NAME@, which was at @TARGET_ADDRESS@, and the \
         policy of this gateway refuses it: @RULE@. Nothing was sent to the target."
        "If it is to be reached, add a rule that allows it ([targets] in the configuration) and \
         reload the service; infisical gateway policy check explains a verdict. If not, find out \
         who asks for it: the entry with the same SESSION_ID names the actor.";
    SESSION_NOT_ALLOWED = WARN "gateway" "207bbb397b5149a585a7f43926a60124"
        "session ended; the new policy does not allow its target"
        "The configuration was reloaded, and its policy refuses the target @TARGET_NAME@ at \
         @TARGET_ADDRESS@, with which a session was open: @RULE@. That session was ended; others \
         were not."
        "If it was to go on, correct the rules ([targets] in the configuration) and reload the \
         service.";
    SESSION_ENDED = INFO "gateway" "3012a00156ba49338aa3efda97e76e63"
        "session ended"
        "A session with the target @TARGET_NAME@ ended: @OUTCOME@. The client's certificate says that \
         it came on behalf of @ACTOR_TYPE@ @ACTOR_NAME@ (@ACTOR_ID@). The address that was \
         reached, the bytes each way and the duration are in the fields of this entry."
        "Nothing is to be done if the outcome is \"completed\". Otherwise the field ERROR has the \
         reason.";
    SESSION_OPEN = INFO "gateway" "39c536e2f9764e8e97714a84249c1ffa"
        "session is open for more than a minute"
        "A session with the target @TARGET_NAME@ is a long one. It is named here, so that it is on \
         record before its end; another entry follows then, with the same SESSION_ID. The client's \
         certificate says that it came on behalf of @ACTOR_TYPE@ @ACTOR_NAME@ (@ACTOR_ID@).";
    SESSION_ISSUED = INFO "platform" "d7ff524c6a1c4cf5859c9f58f8f203cb"
        "session issued"
        "The platform issued certificates for a session with the target @TARGET_NAME@ behind the \
         gateway @GATEWAY_NAME@, to @ACTOR_TYPE@ @ACTOR_NAME@ (@ACTOR_ID@). The same is on record \
         in its database under the number @AUDIT_NUMBER@, where refusals are too: infisical \
         platform audit.";
    SESSION_REFUSED = INFO "platform" "68499a8e109f4fd88a36c1ef340aa031"
        "session refused"
        "The platform issued no session with the target @TARGET_NAME@ behind the gateway \
         @GATEWAY_NAME@ to @ACTOR_TYPE@ @ACTOR_NAME@ (@ACTOR_ID@), which asked from \
         @SOURCE_ADDRESS@: @ERROR@. The record has it under the number @AUDIT_NUMBER@."
        "If it is to be allowed, infisical platform access check explains what is missing.";
    LOGIN_SUCCEEDED = INFO "platform" "2cde19244a304b338264a9e0bc3d8cfc"
        "login succeeded"
        "The identity @ACTOR_NAME@ (@ACTOR_ID@) logged in from @SOURCE_ADDRESS@ and got an access \
         token. The record has it under the number @AUDIT_NUMBER@.";
    LOGIN_REFUSED = INFO "platform" "afa417b4fe2243acb8d042d20e92e6e3"
        "login refused"
        "A login from @SOURCE_ADDRESS@ was refused: @ERROR@. Where the client id is that of an \
         identity, it is @SUBJECT_NAME@ (@SUBJECT_ID@). The record has it under the number \
         @AUDIT_NUMBER@; of many refusals some only."
        "If it is no mistake of a configuration, find out who tries.";
    ENROLLMENT_SUCCEEDED = INFO "platform" "83ddb210b84049bc8490032f05087f01"
        "enrolled with a one-time token"
        "The @SUBJECT_TYPE@ @SUBJECT_NAME@ (@SUBJECT_ID@) exchanged an enrollment token for an \
         access token, from @SOURCE_ADDRESS@. The enrollment token is spent. The record has it \
         under the number @AUDIT_NUMBER@.";
    ENROLLMENT_REFUSED = INFO "platform" "3b422d9ea42c4d5f944cb05a19853ecc"
        "enrollment refused"
        "An enrollment of a @SUBJECT_TYPE@ from @SOURCE_ADDRESS@ was refused: @ERROR@. The record \
         has it under the number @AUDIT_NUMBER@; of many refusals some only."
        "If a gateway or relay of yours did not enroll, create a new token for it. If none was to \
         enroll, find out who tries.";
    ADMINISTERED = INFO "platform" "ac568d1ee8f84aceb0a17063546a25fd"
        "administrative change"
        "@ACTOR_TYPE@ @ACTOR_NAME@ (@ACTOR_ID@) has done @AUDIT_ACTION@, from @SOURCE_ADDRESS@, \
         with the @SUBJECT_TYPE@ @SUBJECT_NAME@ (@SUBJECT_ID@): @DETAILS@. The record has it under \
         the number @AUDIT_NUMBER@: infisical platform audit."
        "Nothing is to be done, if it was to be done.";
    TLS_REPLACED = INFO "platform" "ad6abf47921740f4a6c5166660a4af23"
        "HTTPS certificate replaced"
        "The files of --tls-cert and --tls-key have changed, and new connections get the new \
         certificate, which expires on @EXPIRES@. Open connections go on.";
    TLS_KEPT = ERROR "platform" "3729c184650b447393e07cecb73ba7a2"
        "HTTPS certificate not replaced; the old one is still served"
        "The files of --tls-cert and --tls-key were read again, and cannot be used: @ERROR@. The \
         certificate that is served expires on @EXPIRES@."
        "Put a certificate and the key that belongs to it into the files, readable for the user of \
         the platform. They are read again every minute; under systemd run systemctl reload \
         infisical-platform.";
    TLS_EXPIRES = WARN "platform" "3c7db197a1a94abc8c332449c0c77f1d"
        "HTTPS certificate expires soon"
        "The certificate that the platform serves expires on @EXPIRES@, in @LEFT@. Gateways, relays \
         and clients do not connect to the platform after that; tunnels that are up go on until \
         their own certificates expire."
        "Renew it. If the files hold a newer one already, the platform was not told: under systemd \
         the client of ACME must run systemctl reload infisical-platform.";
    TLS_EXPIRED = ERROR "platform" "a8f8b09e59ec4a258982d0c66531f9e2"
        "HTTPS certificate has expired"
        "The certificate that the platform serves expired on @EXPIRES@. No gateway, relay or client \
         connects to the platform any more."
        "Renew it, and run systemctl reload infisical-platform.";
    SESSIONS_SUMMARIZED = INFO "gateway" "3ea9e91cad6f4969bd4f2bfdf5fc7181"
        "more sessions ended before they reached a target, all in the same way"
        "This many sessions, @COUNT@, ended in the same way as one that has an entry of its own: \
         @OUTCOME@, for the same actor and for this reason:\n\n@ERROR@"
        "Look for the client that repeats its attempts. With INFISICAL_LOG_LEVEL=debug each has \
         an entry of its own.";
    RELAY_NOT_REGISTERED = WARN "relay" "55b1c870d9264993853585e4301db1bd"
        "not registered; trying again"
        "The relay has no certificates yet, so it serves no client. The reason was:\n\n@ERROR@"
        "It retries by itself while a retry can help. See whether this machine reaches the \
         platform, and whether the relay may be registered with its credential.";
    RELAY_HEARTBEAT_FAILED = WARN "relay" "e3c117df5bff454d80a890977147b910"
        "heartbeat failed; the relay goes on serving"
        "The relay serves, but the platform did not confirm that it reaches the relay. The \
         platform sends no gateways to a relay that it has not reached for a while. The reason \
         was:\n\n@ERROR@"
        "If it goes on: see whether the platform is reachable from here, and whether it reaches \
         the ports 2222 and 8443 of this relay under its address.";
    GATEWAY_CONNECTED = INFO "relay" "85559e68e2ee4dbe92fbf352a7e14dbe"
        "gateway connected"
        "The gateway @GATEWAY_ID@ has connected from @PEER@ and can be reached through this relay.";
    GATEWAY_TOOK_OVER = INFO "relay" "a3253460f5674edb83d8884e9faf4d0f"
        "gateway connected again; the new connection takes over"
        "The gateway @GATEWAY_ID@ has connected again, from @PEER@, before its connection from \
         @REPLACED@ ended. The new one serves; the old one is closed."
        "Nothing is to be done: this is how a gateway reconnects after its network failed. If it \
         repeats all the time, two gateways may have one identity.";
    GATEWAY_DISCONNECTED = INFO "relay" "a8f7b6efd3f947d9bbd27cae2f5f0b26"
        "gateway disconnected"
        "The connection of the gateway @GATEWAY_ID@ from @PEER@ ended, and its sessions with it. \
         The reason was: @REASON@"
        "Nothing is to be done here: the gateway reconnects by itself. If it does not, look at its \
         own log.";
    GATEWAY_CONFLICT = WARN "relay" "c4486ec657af4a6b90d2eceb7573c5bc"
        "two gateways use the same identity and replace each other; stop one of them"
        "Two running programs, at @CONNECTED@ and at @REPLACED@, authenticate as the same gateway, \
         @GATEWAY_ID@. Each new connection of one ends the sessions of the other."
        "Stop one of the two. For a second gateway, create one on the platform and enroll it; a \
         copy of a machine has the identity of the original's gateway.";
    GATEWAY_REFUSED = WARN "relay" "3e031b29595c43e7a9783182ef37d302"
        "gateway refused"
        "A program connected from @PEER@ to the port for gateways with a certificate that is not \
         trusted. The reason was:\n\n@ERROR@"
        "If it is one of your gateways: its clock or this machine's may be wrong, or it was \
         registered for another relay. Otherwise a stranger tried to connect; nothing was opened.";
    BUFFERS_SHORT = WARN "relay" "5d0c8e61f7a14b92a3e47f6bd1c09e25"
        "an organization uses its share of the memory for buffers; its transfers slow down"
        "Clients or gateways of the organization @ORGANIZATION@ do not read what is sent to them, \
         or many large transfers run at once. Its windows stay small, so its transfers are slower; \
         no session ends, and other organizations are not affected."
        "If the transfers are wanted, give the relay more memory: raise --max-buffer-mib, and with \
         it MemoryHigh= and MemoryMax= of the unit.";
    STOPPING = INFO "all" "36464177ae264748891aca9a56abc7de"
        "stopping"
        "The program received @SIGNAL@. It accepts no new sessions and gives the open ones a \
         moment to end."
        "Nothing is to be done. A second signal ends it at once.";
    HAND_OVER_STARTED = INFO "gateway" "45f7283f43a349e591b180d4e9a45dd5"
        "starting a successor"
        "The service was asked to hand over to another process, after an upgrade of the program for \
         instance. The new process makes its own tunnel while this one serves on.";
    HANDED_OVER = INFO "gateway" "bd2fb23fc7864801b0b7fce93814a000"
        "handed over to the successor"
        "Process @SUCCESSOR_PID@, of version @SUCCESSOR_VERSION@, serves from now on and is the \
         service's main process. This one lets its open sessions finish and ends.";
    NOT_HANDED_OVER = WARN "gateway" "ba6fea77b2044a0ebe44abff82e062d2"
        "not handed over; this process serves on"
        "There is no successor that could serve. @ERROR@ says why. If a relay had ended the tunnel in \
         favour of the successor, this process makes another one."
        "Correct what the error names and run `infisical gateway upgrade` once more, or restart the \
         service when its sessions may be cut.";
    TOOK_OVER_SERVICE = INFO "gateway" "4408f9fe0fd242118dff3af20fb41eb9"
        "took over from the process before"
        "This process serves from now on and is the service's main process.";
    LOG_FILE_KEPT = WARN "all" "209a3158c11846efa3f66b43cdf2cf1c"
        "log file not reopened; the old one is still in use"
        "The program tried to open the log file again, as it does after logrotate moved it, but \
         could not. Lines still go to the old file, wherever that is now. The reason \
         was:\n\n@ERROR@"
        "Make the directory exist and writable for the user of the service, then send SIGUSR1 to \
         the service.";
    LOG_LINES_LOST = WARN "all" "1a2a3d759e5544ccaecd88120af03f10"
        "log lines are missing here; the reader of the log was too slow"
        "The program never waits for the reader of its log. This many lines did not fit into \
         memory and are lost: @LOST@. Only the log was affected."
        "See whether the disk of the journal or of the log file is full, or the journal was \
         stopped. INFISICAL_LOG_LEVEL=info logs less.";
    AUDIT_FILE_FAILED = WARN "gateway" "a1762e3595df455896d100965b5dfe28"
        "audit file cannot be written; sessions go on"
        "The file of --audit-file, @FILE@, does not take a line. The log has the same events, \
         unless its level is above info. The reason was:\n\n@ERROR@"
        "Make room on the disk. Lines are written again by themselves; the missing ones are in \
         the log.";
    AUDIT_FILE_NOT_ROTATED = WARN "gateway" "b7b2871c47ab499bac3b7c6ec49f04f6"
        "full audit file cannot be moved away; it grows"
        "The file of --audit-file, @FILE@, has 128 MiB, and moving it to its name with .old.1 failed. \
         Lines still go into it. The reason was:\n\n@ERROR@"
        "Let the gateway write to the directory of the file, or let logrotate rotate it.";
    AUDIT_FILE_WORKS = INFO "gateway" "fc1552caa68844b68904b27b7b6f0270"
        "audit file is written again"
        "The audit file @FILE@ takes lines again. This many were not written to it: @LOST@.";
    CLOCK_SKEWED = WARN "gateway, relay, connect" "33ed4cdd4e0c4980a0eea269ce2ec7b2"
        "this machine's clock disagrees with the platform's"
        "By the dates of the platform's answers, @SKEW@. Certificates are now judged by the \
         platform's time, so that sessions continue. Parts that know only this machine's clock, \
         such as the TLS connection to the platform, may take valid certificates for expired ones."
        "Set the clock: see timedatectl, and whether a time service reaches its servers.";
    CLOCK_AGREES = INFO "gateway, relay, connect" "4468f8b5d83e4838beff8673917065c5"
        "this machine's clock agrees with the platform's again"
        "The clock was wrong, and has been set.";
    CAPABILITIES_NOT_DROPPED = WARN "gateway, relay" "fdfd03af869444df91698122495543aa"
        "capabilities that are not needed could not be dropped"
        "The process works, but still has these capabilities, which it does not use and could not \
         drop: @CAPABILITIES@"
        "Remove them in the unit (CapabilityBoundingSet= and AmbientCapabilities=), or see what \
         keeps the process from calling capset.";
    FAILED = ERROR "all" "1765bb0f0c99441788830fa5953c6a75"
        "infisical failed"
        "The program ended with an error:\n\n@ERROR@"
        "The exit code says which kind it is: 64 the command line, 69 something is missing or \
         unreachable, 70 a defect in this program, 77 not permitted, 78 the configuration. The \
         service manager restarts a service unless that cannot help.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::CATALOGUE;

    #[test]
    fn message_ids_are_valid_and_unique() {
        let ids: HashSet<_> = CATALOGUE.iter().map(|entry| entry.event.id).collect();
        let texts: HashSet<_> = CATALOGUE.iter().map(|entry| entry.event.text).collect();
        assert!(!CATALOGUE.is_empty());
        assert!(ids.len() == CATALOGUE.len() && texts.len() == CATALOGUE.len());
        let is_hex = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.chars().all(is_hex))
        );
    }
}
