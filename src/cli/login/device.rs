//! A login in a browser on another machine, for terminals (RFC 8628).

use std::time::Duration;

use tokio::time::Instant;

use super::super::exit::Failure;
use super::super::progress;
use crate::api::people::{
    BegunDeviceLogin, DEVICE_LOGIN, DeviceLogin, LoggedIn, POLL_DEVICE_LOGIN, PollDeviceLogin,
};
use crate::api::{self, Client};
use crate::error::Class;

/// Least and longest time between two questions.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Logs in, at the pace of the provider.
pub(super) async fn log_in(client: &Client, tell: impl Fn(&str)) -> anyhow::Result<LoggedIn> {
    let begun: BegunDeviceLogin = client
        .post(
            "beginning the login",
            DEVICE_LOGIN,
            None,
            &serde_json::json!({}),
        )
        .await
        .map_err(super::refused)?;
    let (url, code) = (&begun.verification_uri, &begun.user_code);
    let mut text =
        format!("To log in, open {url} in a browser on any machine,\nand type there: {code}\n");
    if let Some(complete) = &begun.verification_uri_complete {
        text.push_str(&format!(
            "\nOr open this address, and compare the code:\n\n  {complete}\n"
        ));
    }
    tell(&text);
    let ends_at = Instant::now() + Duration::from_secs(begun.expires_in);
    progress::show("Waiting for the login", poll(client, &begun, ends_at)).await
}

async fn poll(
    client: &Client,
    begun: &BegunDeviceLogin,
    ends_at: Instant,
) -> anyhow::Result<LoggedIn> {
    let request = PollDeviceLogin {
        login_secret: begun.login_secret.clone(),
    };
    let mut wait = Duration::from_secs(begun.interval);
    loop {
        wait = wait.clamp(WAIT.0, WAIT.1);
        tokio::time::sleep(wait).await;
        let asking = client.post("the login", POLL_DEVICE_LOGIN, None, &request);
        let asked: Result<DeviceLogin, api::Error> = asking.await;
        let is_over = Instant::now() >= ends_at;
        match asked {
            Ok(DeviceLogin {
                session: Some(session),
                ..
            }) => return Ok(session),
            Ok(_) if is_over => {
                let text = "no one has logged in in time; run the command again";
                return Err(Failure::unavailable(anyhow::Error::msg(text)));
            }
            Ok(answer) => wait = Duration::from_secs(answer.wait.unwrap_or(begun.interval)),
            // The platform or the provider may come back before the login ends.
            Err(error) => match error.class() {
                Class::Retry if !is_over => wait *= 2,
                Class::RetryAfter(after) if !is_over => wait = after.max(wait),
                Class::Retry
                | Class::RetryAfter(_)
                | Class::Reauthenticate
                | Class::Reenroll
                | Class::Fatal(_) => return Err(super::refused(error)),
            },
        }
    }
}
