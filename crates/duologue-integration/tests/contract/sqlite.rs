//! SQLite: the contract.

use duologue_engine::store_conformance;
use duologue_integration::store::OpenStore;

store_conformance!(OpenStore::sqlite());
