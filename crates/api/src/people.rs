//! Logins of people at the embedded platform (`/v1/embedded/login`), as they are sent; not part of
//! the deployed API.
//!
//! A login that has begun is bound to a secret which only the program that began it has.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::types::expose;

/// `POST`: begin in a browser. `GET`: who is logged in. `DELETE`: log out.
pub const LOGIN: &str = "/v1/embedded/login";
/// `POST`: end what the browser has brought back.
pub const FINISH_LOGIN: &str = "/v1/embedded/login/finish";
/// `POST`: begin on another device.
pub const DEVICE_LOGIN: &str = "/v1/embedded/login/device";
/// `POST`: whether the person is done there.
pub const POLL_DEVICE_LOGIN: &str = "/v1/embedded/login/device/poll";

/// Begins a login in a browser.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeginLogin {
    /// `http://127.0.0.1:PORT/callback`, or the same at `[::1]`.
    pub redirect_uri: String,
}

/// A login that has begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BegunLogin {
    /// To open in the browser.
    pub authorization_url: String,
    /// Comes back with the code.
    pub state: String,
    /// Needed to finish it.
    #[serde(serialize_with = "expose")]
    pub login_secret: Secret,
}

/// Ends a login with what the browser has brought back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishLogin {
    /// See [`BegunLogin`].
    #[serde(serialize_with = "expose")]
    pub login_secret: Secret,
    /// As it came back.
    pub state: String,
    /// The provider's.
    #[serde(serialize_with = "expose")]
    pub code: Secret,
}

/// A login on another device that has begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BegunDeviceLogin {
    /// Needed to ask for the result.
    #[serde(serialize_with = "expose")]
    pub login_secret: Secret,
    /// Where the person goes.
    pub verification_uri: String,
    /// The same with the code in it, if the provider has that.
    pub verification_uri_complete: Option<String>,
    /// What the person types there.
    pub user_code: String,
    /// Seconds between two questions for the result.
    pub interval: u64,
    /// Seconds until it ends.
    pub expires_in: u64,
}

/// Asks for the result of a login on another device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PollDeviceLogin {
    /// See [`BegunDeviceLogin`].
    #[serde(serialize_with = "expose")]
    pub login_secret: Secret,
}

/// What has become of a login on another device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceLogin {
    /// Seconds until it makes sense to ask again; null when it is done.
    pub wait: Option<u64>,
    /// There when it is done.
    pub session: Option<LoggedIn>,
}

/// A session, with its token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn {
    /// Opens what the identity may do.
    #[serde(serialize_with = "expose")]
    pub access_token: Secret,
    /// Who is logged in.
    #[serde(flatten)]
    pub who: WhoAmI,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhoAmI {
    /// The identity's id; null for the administrator's token.
    pub id: Option<String>,
    /// The identity's name.
    pub name: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// By name.
    pub groups: Vec<String>,
    /// RFC 3339; null for a token that does not expire.
    pub expires_at: Option<String>,
}
