"""CITATION.cff keeps the rules of the Citation File Format 1.2.0, and names the version of the package."""

import jsonschema
import yaml

from dbp.version import VERSION
from tests.jobs import ROOT

TEXT = {"type": "string", "minLength": 1}
SCHEMA = {  # the part of the format's schema that belongs to the keys in use; others are refused
    "type": "object",
    "additionalProperties": False,
    "required": ["cff-version", "message", "title", "authors"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "message": TEXT,
        "title": TEXT,
        "type": {"enum": ["software", "dataset"]},
        "version": TEXT,
        "license": {"const": "MIT"},
        "abstract": TEXT,
        "keywords": {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
        "authors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {"name": TEXT},
            },
        },
    },
}


def test_the_file_keeps_the_format():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    jsonschema.validate(content, SCHEMA)
    assert content["version"] == VERSION


def test_the_authors_are_those_of_the_license():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert content["authors"][0]["name"] in (ROOT / "LICENSE").read_text()
