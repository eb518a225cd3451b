//! Finding faces in a picture.

use image::RgbImage;

use super::error::Error;
use super::face::Face;
use super::manifest::{Detector, DetectorResize, Several};
use super::shared::Shared;
use super::yunet::{Grid, STRIDES, suppress};
use crate::picture::{Filter, resample};
use crate::runtime::{Feed, Outputs, Session};

/// What a picture looks like to the detector.
struct View {
    /// [3, height, width], blue first, 0..255.
    pixels: Vec<f32>,
    width: usize,
    height: usize,
    /// How many of its pixels are one of the picture's.
    ratio: f64,
}

impl Detector {
    /// All faces of a picture, best first.
    pub(super) fn faces(
        &self,
        shared: &Shared,
        session: &mut Session,
        picture: &RgbImage,
    ) -> Result<Vec<Face>, Error> {
        let view = self.view(picture);
        let input = session.inputs()[0].name.clone();
        let shape = [1, 3, view.height, view.width];
        let answers = session.run(&Feed::new().f32_slice(input, &view.pixels, &shape))?;
        let mut faces = Vec::new();
        for stride in STRIDES {
            let parts = Parts::new(shared, self, &answers, stride, &view)?;
            let found = parts.grid(stride, &view).decode(self.score);
            faces.extend(found.map_err(|problem| {
                shared.answer(&self.path, &format!("bbox_{stride}"), problem)
            })?);
        }
        let mut faces: Vec<Face> = suppress(faces, self.nms)
            .into_iter()
            .map(|face| face.divided(view.ratio))
            .collect();
        faces.retain(|face| {
            let [width, height] = face.size();
            width.max(height) >= f64::from(self.min_size)
        });
        Ok(faces)
    }

    /// Which of the faces counts, if the picture does.
    pub(super) fn choose(&self, faces: &[Face]) -> Option<usize> {
        let area = |face: &Face| face.size().iter().product::<f64>();
        match self.several {
            Several::First => (!faces.is_empty()).then_some(0),
            Several::Drop => (faces.len() == 1).then_some(0),
            // The better one of equals, which stands first.
            Several::Largest => (0..faces.len())
                .rev()
                .max_by(|&a, &b| area(&faces[a]).total_cmp(&area(&faces[b]))),
        }
    }

    fn view(&self, picture: &RgbImage) -> View {
        let (width, height) = picture.dimensions();
        match self.resize {
            DetectorResize::None => {
                let padded = |n: u32| (n as usize).next_multiple_of(32);
                View::new(picture, padded(width), padded(height), 1.0)
            }
            DetectorResize::Fit => {
                let side = f64::from(self.side);
                let ratio = side / f64::from(width.max(height));
                // Ties to even, as Python rounds; a thread of a picture keeps a pixel.
                let size = |n: u32| (f64::from(n) * ratio).round_ties_even().clamp(1.0, side);
                let whole = [0, 0, width.into(), height.into()];
                let to = [size(width) as u32, size(height) as u32];
                let fitted = resample(picture, whole, to, Filter::Bilinear);
                View::new(&fitted, self.side as usize, self.side as usize, ratio)
            }
        }
    }
}

impl View {
    fn new(picture: &RgbImage, width: usize, height: usize, ratio: f64) -> Self {
        let mut pixels = vec![0.0; 3 * width * height];
        for (channel, plane) in pixels.chunks_exact_mut(width * height).enumerate() {
            let rows = picture.chunks_exact(3 * picture.width() as usize);
            for (from, to) in rows.zip(plane.chunks_exact_mut(width)) {
                for (pixel, value) in from.chunks_exact(3).zip(to) {
                    *value = f32::from(pixel[2 - channel]);
                }
            }
        }
        Self {
            pixels,
            width,
            height,
            ratio,
        }
    }
}

/// The four answers on one grid.
struct Parts {
    cls: Vec<f32>,
    obj: Vec<f32>,
    bbox: Vec<f32>,
    kps: Vec<f32>,
}

impl Parts {
    fn new(
        shared: &Shared,
        detector: &Detector,
        answers: &Outputs,
        stride: usize,
        view: &View,
    ) -> Result<Self, Error> {
        let cells = (view.width / stride) * (view.height / stride);
        let part = |name: &str, each: usize| {
            let name = format!("{name}_{stride}");
            let values = answers.f32_vec(&name)?;
            if values.len() == each * cells {
                return Ok(values);
            }
            let problem = format!("{} numbers, expected {cells} times {each}", values.len());
            Err(shared.answer(&detector.path, &name, problem))
        };
        Ok(Self {
            cls: part("cls", 1)?,
            obj: part("obj", 1)?,
            bbox: part("bbox", 4)?,
            kps: part("kps", 10)?,
        })
    }

    fn grid(&self, stride: usize, view: &View) -> Grid<'_> {
        Grid {
            stride,
            columns: view.width / stride,
            cls: &self.cls,
            obj: &self.obj,
            bbox: &self.bbox,
            kps: &self.kps,
        }
    }
}
