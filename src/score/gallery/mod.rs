//! Folders of pictures, whoever made them.
//!
//! What a folder says about its pictures is looked for in this order:
//!
//! 1. `metadata.jsonl` or `metadata.csv`, as in Hugging Face's imagefolders: `file_name`, and the
//!    caption in `Prompt`, `prompt`, `text` or `caption` (the first that isn't blank). They may stand in
//!    sub-folders (`train`, `test`), and name files from there. Our data sets are such folders, with
//!    more columns (kind, axes, seed, image id), which only their manifest gives a meaning.
//! 2. A file beside a picture: `.json` (`{"file_path": …, "prompt": …}`), as PopAlign's scripts write,
//!    or the first line of `.caption` or `.txt`, as kohya's trainers read.
//! 3. The folder that a picture stands in: its name is the prompt. A flat folder is one group.
//!
//! Where nothing says whether a caption names a value of an axis, the axes file's templates do.

mod captions;
mod folder;
mod open;
mod recognise;
mod rows;
mod table;
mod walk;

pub use folder::{Gallery, Kind, Layout, Picture};
