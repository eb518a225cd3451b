//! The list of pictures of a run, and the captions they are drawn for.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::config::Until;
use super::{Error, Result, UNIT};
use crate::data::dataset::{Kind, PictureRow};
use crate::data::writer::unit_of;
use crate::prompts::Axes;
use crate::prompts::caption_id;

/// Most pictures of a data set: its units are listed in memory, and 1500 times the paper's 66,000 are
/// enough.
const MOST_PICTURES: usize = 100_000_000;

/// Every picture of a run, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    captions: Vec<String>,
    /// Place of each caption, by its id.
    by_id: HashMap<u32, usize>,
    groups: Vec<Group>,
    pictures: usize,
    /// The end of the list of places, of which some are free where captions begin units.
    places: usize,
}

/// Pictures of one caption that stand together.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    subject: String,
    /// Its caption and the subject's neutral one, in `captions`.
    caption: usize,
    neutral: usize,
    kind: Kind,
    axes: BTreeMap<String, String>,
    /// Its first picture's place in the list and number among its caption's.
    first: usize,
    first_image: u32,
    count: usize,
    /// Of its pictures so many that pass the filter are enough, where that is asked for.
    enough: Option<usize>,
}

/// Units that are made one after the other by the same worker: each needs to know what came of those
/// before it, where a caption has enough at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) units: Range<usize>,
    /// Pictures that there are at most.
    pub(super) pictures: usize,
    /// Pictures that pass the filter and are enough; nothing where all are drawn.
    pub(super) enough: Option<usize>,
    /// What tells whose shard it is.
    pub(super) key: usize,
}

impl Work {
    /// How many pictures are still drawn if all pass, after so many were drawn, of which so many passed.
    pub(super) fn expected(&self, drawn: usize, kept: usize) -> usize {
        let left = self.pictures - drawn;
        let missing = self.enough.map(|enough| enough.saturating_sub(kept));
        missing.map_or(left, |missing| missing.min(left))
    }
}

/// One picture of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture<'a> {
    /// Its place in the list.
    pub index: usize,
    /// The entry of the prompt list.
    pub subject: &'a str,
    /// Its caption.
    pub caption: &'a str,
    /// The subject's caption that names no values.
    pub neutral: &'a str,
    /// Whether its caption names values.
    pub kind: Kind,
    /// The values.
    pub axes: &'a BTreeMap<String, String>,
    /// Its number among its caption's pictures.
    pub image_id: u32,
}

impl Plan {
    /// Plans `neutral` pictures of each prompt's neutral caption and, with axes, `specific` ones
    /// of each specific caption. Without axes each prompt is a neutral caption as it stands.
    ///
    /// # Errors
    /// [`Error::Nothing`], [`Error::Clash`], more pictures than can be counted.
    pub fn new(
        prompts: &[String],
        axes: Option<&Axes>,
        neutral: u32,
        specific: u32,
    ) -> Result<Self> {
        let mut building = Building::default();
        for prompt in prompts {
            let caption = axes.map_or_else(|| prompt.clone(), |axes| axes.neutral(prompt));
            let own = building.plan.place(caption)?;
            building.group(prompt, own, own, Kind::Neutral, BTreeMap::new(), neutral)?;
            if specific == 0 {
                continue;
            }
            for named in axes.map(|axes| axes.specific(prompt)).unwrap_or_default() {
                let caption = building.plan.place(named.caption)?;
                building.group(prompt, caption, own, Kind::Specific, named.values, specific)?;
            }
        }
        let Building { mut plan, .. } = building;
        plan.places = plan.pictures;
        match plan.pictures {
            0 => Err(Error::Nothing {
                reason: "--neutral and --specific are both 0",
            }),
            _ => Ok(plan),
        }
    }

    /// Has a caption encoded that pictures are drawn by or edited towards, whoever's they are.
    ///
    /// # Errors
    /// [`Error::Clash`].
    pub fn also(&mut self, caption: String) -> Result<()> {
        self.place(caption).map(|_| ())
    }

    /// The place of a caption among all, added if it is new.
    fn place(&mut self, caption: String) -> Result<usize> {
        let id = caption_id(&caption);
        if let Some(&place) = self.by_id.get(&id) {
            return match self.captions[place] == caption {
                true => Ok(place),
                false => Err(Error::Clash {
                    first: self.captions[place].clone(),
                    second: caption,
                    id,
                }),
            };
        }
        let place = self.captions.len();
        self.by_id.insert(id, place);
        self.captions.push(caption);
        Ok(place)
    }

    /// Plans pictures of each caption until enough pass the filter: `limit` times as many at most.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn until(prompts: &[String], axes: Option<&Axes>, until: Until) -> Result<Self> {
        let most = |enough: u32| enough.saturating_mul(until.limit);
        let plan = Self::new(prompts, axes, most(until.neutral), most(until.specific));
        let mut plan = plan.map_err(|error| match error {
            Error::Option { .. } => Error::Option {
                option: "until",
                value: format!("{},{}", until.neutral, until.specific),
                problem: format!(
                    "with --until-limit {} and this list of prompts that could be more than the \
                     {MOST_PICTURES} pictures that a data set can hold",
                    until.limit
                ),
            },
            Error::Nothing { .. } => Error::Nothing {
                reason: "--until asks for none of any caption",
            },
            error => error,
        })?;
        plan.places = 0;
        for group in &mut plan.groups {
            group.first = plan.places;
            plan.places += group.count.next_multiple_of(UNIT);
            group.enough = Some(match group.kind {
                Kind::Neutral => until.neutral as usize,
                Kind::Specific => until.specific as usize,
            });
        }
        Ok(plan)
    }

    /// How many places the list has.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Whether captions begin units, so that places are free.
    pub(super) fn ragged(&self) -> bool {
        self.groups.iter().any(|group| group.enough.is_some())
    }

    /// The pictures at some places of the list; there are none at free ones.
    pub(super) fn pictures(&self, places: Range<usize>) -> impl Iterator<Item = Picture<'_>> {
        let there = |&index: &usize| {
            let group = &self.groups[self.group(index)];
            index < group.first + group.count
        };
        places.filter(there).map(|index| self.picture(index))
    }

    /// What can be done apart from each other: units, or captions' units where they end when they have
    /// enough.
    pub(super) fn work(&self) -> Vec<Work> {
        if !self.ragged() {
            let unit = |unit: usize| Work {
                units: unit..unit + 1,
                pictures: UNIT.min(self.places - unit * UNIT),
                enough: None,
                key: unit,
            };
            return (0..self.places.div_ceil(UNIT)).map(unit).collect();
        }
        let caption = |group: &Group| Work {
            units: group.first / UNIT..(group.first + group.count).div_ceil(UNIT),
            pictures: group.count,
            enough: group.enough,
            // Captions take different times, neutral ones the longest: a hash spreads them.
            key: caption_id(&self.captions[group.caption]) as usize,
        };
        self.groups.iter().map(caption).collect()
    }

    /// The captions whose pictures, given as rows, are fewer than enough: each with how many passed the
    /// filter, and how many are enough.
    pub(super) fn short(&self, rows: &[PictureRow]) -> Vec<(&str, usize, usize)> {
        let mut kept: HashMap<usize, usize> = HashMap::new();
        for row in rows.iter().filter(|row| row.dropped.is_none()) {
            let unit = unit_of(&row.latents.file);
            *kept.entry(self.group(unit * UNIT)).or_default() += 1;
        }
        let groups = self.groups.iter().enumerate().filter_map(|(place, group)| {
            let kept = kept.get(&place).copied().unwrap_or_default();
            let enough = group.enough.filter(|&enough| kept < enough)?;
            Some((self.captions[group.caption].as_str(), kept, enough))
        });
        groups.collect()
    }

    /// The group that a place belongs to.
    fn group(&self, index: usize) -> usize {
        self.groups.partition_point(|group| group.first <= index) - 1
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.pictures
    }

    /// Whether there are none. (There are always some.)
    pub fn is_empty(&self) -> bool {
        self.pictures == 0
    }

    /// All captions, each once; neutral ones also where no picture is drawn for them, because
    /// training labels pairs with them.
    pub fn captions(&self) -> &[String] {
        &self.captions
    }

    /// The picture at a place of the list.
    ///
    /// # Panics
    /// If the list is shorter.
    pub fn picture(&self, index: usize) -> Picture<'_> {
        assert!(index < self.places, "no picture {index} in the plan");
        let group = &self.groups[self.group(index)];
        Picture {
            index,
            subject: &group.subject,
            caption: &self.captions[group.caption],
            neutral: &self.captions[group.neutral],
            kind: group.kind,
            axes: &group.axes,
            image_id: group.first_image + (index - group.first) as u32,
        }
    }
}

/// A plan being made.
#[derive(Default)]
struct Building {
    plan: Plan,
    /// Pictures of each caption so far: a caption that two prompts lead to goes on counting, so
    /// that no picture is drawn twice.
    images: HashMap<usize, u32>,
}

impl Building {
    fn group(
        &mut self,
        subject: &str,
        caption: usize,
        neutral: usize,
        kind: Kind,
        axes: BTreeMap<String, String>,
        count: u32,
    ) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let images = self.images.entry(caption).or_default();
        let first_image = *images;
        *images = images.checked_add(count).ok_or_else(|| Error::Option {
            option: "neutral",
            value: count.to_string(),
            problem: "more pictures of one caption than can be counted".into(),
        })?;
        self.plan.groups.push(Group {
            subject: subject.to_owned(),
            caption,
            neutral,
            kind,
            axes,
            first: self.plan.pictures,
            first_image,
            count: count as usize,
            enough: None,
        });
        self.plan.pictures += count as usize;
        match self.plan.pictures <= MOST_PICTURES {
            true => Ok(()),
            false => Err(Error::Option {
                option: "neutral",
                value: count.to_string(),
                problem: format!(
                    "with --specific and this list of prompts that is more than the {MOST_PICTURES} \
                     pictures that a data set can hold"
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const AXES: &str = r#"
        [template]
        neutral = "a {prompt}"
        specific = "a {gender} {prompt}"
        [[axis]]
        name = "gender"
        values = ["female", "male"]
    "#;

    fn plan(prompts: &[&str], axes: bool, neutral: u32, specific: u32) -> Result<Plan> {
        let axes = axes.then(|| Axes::parse(AXES, Path::new("axes.toml")).unwrap());
        let prompts: Vec<String> = prompts.iter().map(|&p| p.to_owned()).collect();
        Plan::new(&prompts, axes.as_ref(), neutral, specific)
    }

    #[test]
    fn pictures_stand_prompt_by_prompt_neutral_first() {
        let plan = plan(&["cook", "clerk"], true, 2, 1).unwrap();
        let all: Vec<(&str, u32)> = (0..plan.len())
            .map(|i| plan.picture(i))
            .map(|p| (p.caption, p.image_id))
            .collect();
        let expected = [
            ("a cook", 0),
            ("a cook", 1),
            ("a female cook", 0),
            ("a male cook", 0),
            ("a clerk", 0),
            ("a clerk", 1),
            ("a female clerk", 0),
            ("a male clerk", 0),
        ];
        assert_eq!(all, expected);
        let last = plan.picture(7);
        assert_eq!((last.subject, last.neutral), ("clerk", "a clerk"));
        assert_eq!(last.axes["gender"], "male");
        assert_eq!(plan.captions().len(), 6);
    }

    #[test]
    fn without_axes_prompts_stand_as_they_are_and_neutral_captions_are_always_listed() {
        let plain = plan(&["a house"], false, 3, 10).unwrap();
        assert_eq!(
            (plain.len(), plain.captions()),
            (3, &["a house".to_owned()][..])
        );
        let specific = plan(&["cook"], true, 0, 1).unwrap();
        assert_eq!(specific.len(), 2);
        assert_eq!(specific.captions()[0], "a cook");
    }

    #[test]
    fn a_caption_met_again_goes_on_counting() {
        let plan = plan(&["cook", "female cook"], true, 2, 1).unwrap();
        let places: Vec<u32> = (0..plan.len())
            .map(|i| plan.picture(i))
            .filter(|p| p.caption == "a female cook")
            .map(|p| p.image_id)
            .collect();
        assert_eq!(places, [0, 1, 2]);
    }

    #[test]
    fn with_enough_asked_for_captions_begin_units() {
        let until = Until {
            neutral: 10,
            specific: 2,
            limit: 4,
        };
        let axes = Axes::parse(AXES, Path::new("axes.toml")).unwrap();
        let plan = Plan::until(&["cook".to_owned()], Some(&axes), until).unwrap();
        assert_eq!((plan.len(), plan.places()), (40 + 8 + 8, 48 + 16 + 16));
        let work = plan.work();
        let units: Vec<_> = work.iter().map(|work| work.units.clone()).collect();
        assert_eq!(units, [0..3, 3..4, 4..5]);
        assert_eq!(work[0].expected(0, 0), 10);
        assert_eq!(work[0].expected(16, 9), 1);
        assert_eq!(work[0].expected(40, 3), 0);
        let ids = |places| -> Vec<u32> {
            let pictures = plan.pictures(places);
            pictures.map(|picture| picture.image_id).collect()
        };
        assert_eq!(ids(32..48), (32..40).collect::<Vec<u32>>());
        assert_eq!(ids(48..64), (0..8).collect::<Vec<u32>>());
        assert_eq!(plan.picture(64).caption, "a male cook");
        assert_eq!(plan.short(&[]).len(), 3);
    }

    #[test]
    fn a_plan_of_more_pictures_than_a_data_set_holds_is_refused() {
        let prompts: Vec<String> = (0..101).map(|i| format!("cook {i}")).collect();
        let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        let error = plan(&prompts, false, 1_000_000, 0).unwrap_err();
        assert!(error.to_string().contains("100000000 pictures"), "{error}");
        assert_eq!(
            plan(&prompts[1..], false, 1_000_000, 0).unwrap().len(),
            100_000_000
        );
    }

    #[test]
    fn an_empty_plan_is_refused() {
        assert!(matches!(
            plan(&["x"], true, 0, 0),
            Err(Error::Nothing { .. })
        ));
        assert!(matches!(
            plan(&["x"], false, 0, 4),
            Err(Error::Nothing { .. })
        ));
    }
}
