"""Ask the online store for photographs by name, as a service would.

Run it:  python ask.py thing/coffee.jpg space/moon.jpg
"""

import sys

import feast

store = feast.FeatureStore(repo_path="features")
answer = store.get_online_features(
    features=["photos:label", "photos:sharpness"],
    entity_rows=[{"photo": photo} for photo in sys.argv[1:]],
).to_dict()
for photo, label, sharpness in zip(
    answer["photo"], answer["label"], answer["sharpness"], strict=True
):
    print(f"{photo}: not there" if label is None else f"{photo}: {label}, {sharpness:.3f} sharp")
