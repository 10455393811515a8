//! SQL functions over the REST interface of a Supabase project: for projects of which only the URL and a secret
//! key are known, and no connection to the database.
//!
//! The tables and functions are those of `postgres`, and a call is one `POST` to the function; so it is one
//! transaction here as well. How calls are made is `supabase::calls`, and to which address, `supabase::target`.

mod calls;
mod failure;
#[cfg(feature = "testing")]
pub mod fuzz;
mod startup;
mod target;

pub(crate) use self::{
    startup::{check, open},
    target::Target,
};
