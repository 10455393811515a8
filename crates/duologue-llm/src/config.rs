//! How to reach one endpoint.

use std::{net::IpAddr, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use reqwest::{Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// An endpoint that speaks OpenAI's chat completions. The defaults and their reasons are in
/// `config/default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiConfig {
    /// Sent as `Authorization: Bearer …`. Empty where the endpoint wants none.
    pub api_key: SecretString,
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// What `/chat/completions` is appended to; its query, if it has one, stays at the end.
    ///
    /// `http://` is taken for any host, since endpoints of one's own often live behind a private
    /// network or a proxy. The key and the conversation then travel in the clear.
    pub base_url: String,
    /// Whether `stream_options` asks for the count of tokens. Some endpoints refuse requests that
    /// do.
    pub usage_in_stream: bool,
    /// How the endpoint calls the limit of the answer.
    pub output_tokens_field: OutputTokensField,
    /// How long connecting may take.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// The most answers at a time; each has a connection of its own. A request above the limit waits
    /// for the end of another.
    pub connections_max: u16,
    /// The most connections that stay open for later requests. More than that are closed after their
    /// answer.
    pub idle_connections_max: u16,
    /// The longest line, and the longest event, of a streamed answer. A longer one fails it.
    pub sse_line_bytes_max: u32,
}

/// How an endpoint calls the limit of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputTokensField {
    /// As OpenAI does now.
    MaxCompletionTokens,
    /// As older endpoints do.
    MaxTokens,
}

/// Why an endpoint cannot be used as it is configured. Each message names the key, never its value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `base_url` is not what it must be.
    #[error(
        "`base_url` must be a URL that begins with `https://` or `http://`, and hold no user name \
         or password"
    )]
    BaseUrl,
    /// `api_key` cannot be sent.
    #[error("`api_key` must consist of visible ASCII characters")]
    ApiKey,
    /// The HTTP client could not be made, for example for want of root certificates.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl OpenAiConfig {
    /// Whether there is a key to show.
    pub fn has_key(&self) -> bool {
        !self.api_key.expose_secret().is_empty()
    }

    /// Where requests for answers go.
    pub(crate) fn url(&self) -> Result<Url, ConfigError> {
        self.url_of(&["chat", "completions"])
    }

    /// The address of a part of the API.
    pub(crate) fn url_of(&self, path: &[&str]) -> Result<Url, ConfigError> {
        let mut url = Url::parse(&self.base_url).map_err(|_| ConfigError::BaseUrl)?;
        let is_plain = matches!(url.scheme(), "https" | "http")
            && url.username().is_empty()
            && url.password().is_none();
        if !is_plain {
            return Err(ConfigError::BaseUrl);
        }
        url.set_fragment(None);
        url.path_segments_mut()
            .map_err(|()| ConfigError::BaseUrl)?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    /// The header that shows the key, if there is one. It is marked, so that nothing prints it.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, ConfigError> {
        if !self.has_key() {
            return Ok(None);
        }
        let key = self.api_key.expose_secret();
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::ApiKey);
        }
        let mut value =
            HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| ConfigError::ApiKey)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Whether `url` leads to this machine, where no proxy has any business.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let by_address = address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    by_address || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(base_url: &str, api_key: &str) -> OpenAiConfig {
        OpenAiConfig {
            api_key: api_key.into(),
            model: "gpt-4o-mini".to_owned(),
            base_url: base_url.to_owned(),
            usage_in_stream: true,
            output_tokens_field: OutputTokensField::MaxCompletionTokens,
            connect_timeout: Duration::from_secs(5),
            connections_max: 100,
            idle_connections_max: 10,
            sse_line_bytes_max: 1 << 20,
        }
    }

    #[test]
    fn requests_go_below_the_base_url_whatever_its_end() {
        for (base_url, expected) in [
            (
                "https://api.openai.com/v1",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "https://api.openai.com/v1/",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "http://127.0.0.1:11434",
                "http://127.0.0.1:11434/chat/completions",
            ),
            (
                "https://x.example/deployments/d?api-version=2024-10-21",
                "https://x.example/deployments/d/chat/completions?api-version=2024-10-21",
            ),
        ] {
            assert_eq!(config(base_url, "").url().unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_base_url_that_cannot_be_used_is_refused_without_being_repeated() {
        for bad in [
            "",
            "api.openai.com/v1",
            "ftp://api.openai.com",
            "data:text/plain,x",
            "https://",
            "https://alice:s3cret@api.openai.com/v1",
        ] {
            let error = config(bad, "").url().expect_err(bad).to_string();
            assert!(
                error.contains("`base_url`") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_key_is_sent_only_if_there_is_one_and_never_printed() {
        let shown = config("https://x.example", "sk-1234").authorization();
        let shown = shown.unwrap().unwrap();
        assert_eq!(shown, "Bearer sk-1234");
        assert!(!format!("{shown:?}").contains("1234"));
        assert!(!format!("{:?}", config("https://x.example", "sk-1234")).contains("1234"));
        assert!(
            config("https://x.example", "")
                .authorization()
                .unwrap()
                .is_none()
        );
        for bad in ["sk 1234", "sk-1234\n", "schlüssel"] {
            let refused = config("https://x.example", bad).authorization();
            assert!(matches!(refused, Err(ConfigError::ApiKey)), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_other_hosts() {
        for (url, expected) in [
            ("http://127.0.0.1:1/v1", true),
            ("http://127.8.9.1/v1", true),
            ("http://[::1]:1/v1", true),
            ("http://localhost:11434/v1", true),
            ("http://ollama.localhost/v1", true),
            ("http://localhost.example/v1", false),
            ("https://api.openai.com/v1", false),
            ("http://10.0.0.1/v1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    /// The section's keys are spelled as in `config/default.toml`, and a misspelt one is noticed.
    #[test]
    fn a_section_is_read_with_all_its_keys_and_no_others() {
        let section = serde_json::json!({
            "api_key": "",
            "model": "llama-3.1-8b-instant",
            "base_url": "https://api.groq.com/openai/v1",
            "usage_in_stream": false,
            "output_tokens_field": "max_tokens",
            "connect_timeout": "5s",
            "connections_max": 4096,
            "idle_connections_max": 256,
            "sse_line_bytes_max": 1_048_576,
        });
        let read: OpenAiConfig = serde_json::from_value(section.clone()).unwrap();
        assert_eq!(read.output_tokens_field, OutputTokensField::MaxTokens);
        assert_eq!(read.connect_timeout, Duration::from_secs(5));
        let mut misspelt = section;
        misspelt["modell"] = "x".into();
        assert!(serde_json::from_value::<OpenAiConfig>(misspelt).is_err());
    }
}
