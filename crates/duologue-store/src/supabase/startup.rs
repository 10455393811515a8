//! Calling for the first time, and what a failure then means for the operator.

use super::{Target, calls::RestCaller, failure::RestFailure};
use crate::{
    OpenError, StoreConfig,
    functions::{Call, FunctionStore},
    migrations::{self, Age},
};

/// Makes sure that the project is there, admits us, and has what this build needs, and opens the store in it.
pub(crate) async fn open(
    target: Target,
    config: &StoreConfig,
) -> Result<FunctionStore<RestCaller>, OpenError> {
    let caller = RestCaller::new(target, config)?;
    check_tables(&caller).await?;
    Ok(FunctionStore::new(caller, config))
}

/// Makes sure of the same, and says which version the tables are of. Changes nothing.
pub(crate) async fn check(target: Target, config: &StoreConfig) -> Result<i64, OpenError> {
    check_tables(&RestCaller::new(target, config)?).await
}

async fn check_tables(calls: &RestCaller) -> Result<i64, OpenError> {
    let target = calls.target();
    let answer: Result<Option<i64>, _> = calls.try_call(&Call::version()).await;
    let version = answer.map_err(|failure| open_error(target, failure))?;
    let version = version.unwrap_or(0);
    match migrations::age(version) {
        Age::Fit => Ok(version),
        Age::TooOld => Err(OpenError::SchemaOutOfDate {
            place: target.place(),
            schema: target.schema().to_owned(),
        }),
        Age::TooNew => Err(OpenError::TooNew {
            place: target.place(),
            version,
        }),
    }
}

fn open_error(target: &Target, failure: RestFailure) -> OpenError {
    let (place, schema) = (target.place(), target.schema().to_owned());
    let RestFailure::Refused(refusal) = &failure else {
        return match failure {
            RestFailure::Unreadable(_) | RestFailure::TooLarge => OpenError::NotSupabase {
                place,
                source: failure.into(),
            },
            _ => OpenError::SupabaseUnreachable {
                place,
                source: failure.into(),
            },
        };
    };
    match (refusal.status.as_u16(), refusal.code.as_str()) {
        (_, "PGRST106") => OpenError::SchemaNotExposed { place, schema },
        (_, "PGRST202" | "42883") => OpenError::FunctionsMissing { place, schema },
        (401 | 403, _) => OpenError::KeyRefused {
            place,
            source: failure.into(),
        },
        (408 | 425 | 429 | 500.., _) => OpenError::SupabaseUnreachable {
            place,
            source: failure.into(),
        },
        _ => OpenError::NotSupabase {
            place,
            source: failure.into(),
        },
    }
}
