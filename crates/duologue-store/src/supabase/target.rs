//! Whom calls go to, and what each of them bears.

use std::net::IpAddr;

use reqwest::{
    Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};

use crate::OpenError;

const API_KEY: HeaderName = HeaderName::from_static("apikey");
const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");
const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");

/// A schema of a Supabase project, and the right to call its functions.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where the functions are, each below this.
    functions: Url,
    schema: String,
    /// Those of every request. What is secret among them is marked, so that nothing prints it.
    headers: HeaderMap,
}

impl Target {
    /// Reads what the configuration says. Connects to nothing.
    pub(crate) fn new(url: &str, key: &SecretString, schema: &str) -> Result<Self, OpenError> {
        let schema = schema.trim();
        let schema_value = HeaderValue::try_from(schema).map_err(|_| OpenError::SupabaseSchema)?;
        if schema.is_empty() {
            return Err(OpenError::SupabaseSchema);
        }
        let mut headers = key_headers(key)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_PROFILE, schema_value.clone());
        headers.insert(ACCEPT_PROFILE, schema_value);
        Ok(Self {
            functions: functions_url(url).ok_or(OpenError::SupabaseUrl)?,
            schema: schema.to_owned(),
            headers,
        })
    }

    pub(crate) fn url(&self, function: &str) -> Url {
        self.functions
            .join(function)
            .expect("the name of our function is a path")
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Where the project is, with its port if it is not the usual one.
    pub(crate) fn place(&self) -> String {
        let host = self.functions.host_str().unwrap_or_default();
        match self.functions.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether calls stay on this machine, where no proxy has any business.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.functions.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let by_address = address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        by_address || host == "localhost" || host.ends_with(".localhost")
    }
}

/// `https://abc.supabase.co`, also if the path of the interface was copied along with it.
fn functions_url(url: &str) -> Option<Url> {
    let url = url.trim().trim_end_matches('/');
    let project = url.strip_suffix("/rest/v1").unwrap_or(url);
    let functions = Url::parse(&format!("{project}/rest/v1/rpc/")).ok()?;
    let is_plain = matches!(functions.scheme(), "https" | "http")
        && functions.username().is_empty()
        && functions.password().is_none()
        && functions.query().is_none()
        && functions.fragment().is_none();
    is_plain.then_some(functions)
}

/// The two kinds of keys. A legacy key is a JWT, which also names the role that we get; a key of the
/// newer kind is not, and where a JWT is expected it would be refused.
fn key_headers(key: &SecretString) -> Result<HeaderMap, OpenError> {
    let key = key.expose_secret().trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(OpenError::SupabaseKey);
    }
    if key.starts_with("sb_publishable_") {
        return Err(OpenError::SupabaseKeyIsPublic);
    }
    let secret = |text: &str| {
        let mut value = HeaderValue::try_from(text).map_err(|_| OpenError::SupabaseKey)?;
        value.set_sensitive(true);
        Ok::<_, OpenError>(value)
    };
    let mut headers = HeaderMap::new();
    headers.insert(API_KEY, secret(key)?);
    let is_jwt = key.starts_with("eyJ") && key.split('.').count() == 3;
    if is_jwt {
        headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, key: &str) -> Result<Target, OpenError> {
        Target::new(url, &key.into(), "public")
    }

    #[test]
    fn functions_are_below_the_project_however_its_url_was_copied() {
        for (url, expected) in [
            (
                "https://abc.supabase.co",
                "https://abc.supabase.co/rest/v1/rpc/f",
            ),
            (
                "https://abc.supabase.co/ ",
                "https://abc.supabase.co/rest/v1/rpc/f",
            ),
            (
                "https://abc.supabase.co/rest/v1/",
                "https://abc.supabase.co/rest/v1/rpc/f",
            ),
            ("http://kong:8000", "http://kong:8000/rest/v1/rpc/f"),
            (
                "https://api.test/project",
                "https://api.test/project/rest/v1/rpc/f",
            ),
        ] {
            assert_eq!(
                target(url, "sb_secret_1").unwrap().url("f").as_str(),
                expected
            );
        }
    }

    #[test]
    fn only_a_key_that_is_a_jwt_is_also_shown_as_one() {
        let shown = |key: &str| {
            let headers = target("https://a.test", key).unwrap().headers;
            let text = |name| {
                headers
                    .get(name)
                    .map(|value| value.to_str().unwrap().to_owned())
            };
            (text(API_KEY), text(AUTHORIZATION))
        };
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2ln";
        assert_eq!(
            shown(&format!("{jwt}\n")),
            (Some(jwt.to_owned()), Some(format!("Bearer {jwt}")))
        );
        assert_eq!(shown("sb_secret_1"), (Some("sb_secret_1".to_owned()), None));
    }

    #[test]
    fn nothing_prints_the_key() {
        for key in ["sb_secret_canary", "eyJcanary.canary.canary"] {
            let text = format!("{:?}", target("https://a.test", key).unwrap());
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_the_name_of_its_variable() {
        for (url, key, name) in [
            ("abc.supabase.co", "sb_secret_1", "SUPABASE_URL"),
            ("https://me:pw@a.test", "sb_secret_1", "SUPABASE_URL"),
            ("https://a.test?x=1", "sb_secret_1", "SUPABASE_URL"),
            ("postgres://a.test/db", "sb_secret_1", "SUPABASE_URL"),
            ("https://a.test", "two words", "SUPABASE_SERVICE_ROLE_KEY"),
            (
                "https://a.test",
                "sb_publishable_1",
                "SUPABASE_SERVICE_ROLE_KEY",
            ),
        ] {
            let error = target(url, key).unwrap_err().to_string();
            assert!(error.contains(name), "{url} {key}: {error}");
            assert!(!error.contains("pw@"), "{error}");
        }
        let error = Target::new("https://a.test", &"sb_secret_1".into(), " ").unwrap_err();
        assert!(error.to_string().contains("SUPABASE_SCHEMA"), "{error}");
    }
}
