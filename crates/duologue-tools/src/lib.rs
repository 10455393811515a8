//! The tools that the built-in agent uses: a knowledge base, and simulated accounts, orders and
//! invoices.
//!
//! They are a demonstration that always works: what they know is in their tables, they do no IO,
//! and the same arguments always get the same answer. For real accounts, write a
//! [`Tool`] of the same shape.

mod account;
mod arguments;
mod invoice;
mod knowledge;
mod order;

use std::sync::Arc;

use duologue_engine::tool::Tool;

pub use crate::{
    account::FetchAccountBalance, invoice::FetchInvoice, knowledge::KnowledgeBaseLookup,
    order::FetchOrderStatus,
};

/// All tools of this crate.
pub fn builtin() -> Vec<Arc<dyn Tool>> {
    vec![
        Arc::new(KnowledgeBaseLookup::new()),
        Arc::new(FetchAccountBalance::new()),
        Arc::new(FetchOrderStatus::new()),
        Arc::new(FetchInvoice::new()),
    ]
}
