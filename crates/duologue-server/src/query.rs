//! The query of a request, decoded strictly.
//!
//! The usual decoders replace what is not UTF-8 by U+FFFD. Then `user_id=%ff` and `user_id=%fe`
//! would name one user, who could read the sessions of the other.

use axum::{extract::Query, http::Uri};
use percent_encoding::percent_decode_str;

/// Why a URI cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// Its path or its query does not decode to UTF-8.
    #[error("the path and the query must be percent-encoded UTF-8")]
    NotUtf8,
    /// A parameter occurs twice. Two programs could differ on which one counts.
    #[error("the query has `{0}` twice; send it once")]
    Repeated(String),
}

/// The parameters of a query: pairs separated by `&`, as HTML forms write them, so that `+` is a
/// space and `%2B` a plus.
#[derive(Debug)]
pub(crate) struct Parameters {
    pairs: Vec<(String, String)>,
}

impl Parameters {
    pub(crate) fn read(uri: &Uri) -> Result<Self, QueryError> {
        check_utf8(uri)?;
        // With the check above nothing is left that this could refuse.
        let Query(pairs) = Query::try_from_uri(uri).map_err(|_| QueryError::NotUtf8)?;
        Ok(Self { pairs })
    }

    /// The value of a parameter.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, QueryError> {
        let mut values = self.pairs.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            Some(_) => Err(QueryError::Repeated(name.to_owned())),
            None => Ok(value),
        }
    }
}

/// Refuses a URI whose path or query does not decode to UTF-8.
///
/// Each is checked as a whole: what separates its parts is ASCII, so no character of UTF-8 extends
/// over two of them.
pub(crate) fn check_utf8(uri: &Uri) -> Result<(), QueryError> {
    for text in [uri.path(), uri.query().unwrap_or_default()] {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map_err(|_| QueryError::NotUtf8)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_id(uri: &str) -> Result<Option<String>, QueryError> {
        let parameters = Parameters::read(&uri.parse().unwrap())?;
        Ok(parameters.one("user_id")?.map(str::to_owned))
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_wherever_they_are() {
        for uri in [
            "/?user_id=%ff",
            "/?user_id=%fe",
            "/?user_id=%C3&other=%A9",
            "/?%ff=1",
            "/?user_id=alice&other=%ED%A0%80",
            "/%ff?user_id=alice",
        ] {
            assert_eq!(user_id(uri), Err(QueryError::NotUtf8), "{uri}");
        }
        assert_eq!(user_id("/?user_id=%C3%A9"), Ok(Some("é".to_owned())));
        assert_eq!(user_id("/?user_id=%EF%BF%BD"), Ok(Some("\u{fffd}".into())));
    }

    #[test]
    fn a_plus_is_a_space_as_in_forms() {
        assert_eq!(user_id("/?user_id=a+b"), Ok(Some("a b".to_owned())));
        assert_eq!(user_id("/?user_id=a%2Bb"), Ok(Some("a+b".to_owned())));
    }

    #[test]
    fn a_parameter_may_occur_once() {
        assert_eq!(user_id("/"), Ok(None));
        assert_eq!(user_id("/?user_id="), Ok(Some(String::new())));
        let twice = user_id("/?user_id=a&user_id=a");
        assert_eq!(twice, Err(QueryError::Repeated("user_id".to_owned())));
    }
}
