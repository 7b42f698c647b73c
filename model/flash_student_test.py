"""The student in a board's flash: it fits its partition, most of its stories are grammatical, and it is quick enough.

    python3 flash_student_test.py THIMBLE
"""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from stories import Language

FOLDER = pathlib.Path(__file__).resolve().parent / "thimble-stories-flash"
SAMPLES = 100
LEAST_GRAMMATICAL = 0.90
LEAST_TOKENS_PER_S = 15  # modelled, on an ESP32-CAM


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        gguf, image = f"{folder}/flash.gguf", f"{folder}/model.img"
        subprocess.run([tool, "convert", FOLDER, "-o", gguf, "--quant", "q8_0"], check=True)
        subprocess.run([tool, "flash-image", gguf, "--whole", "-o", image], check=True)

        def answer(*words):
            run = subprocess.run([tool, *words, "--json"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
            return json.loads(run.stdout)

        def story(seed):
            return answer("run", "-m", image, "--board", "esp32-cam", "-s", str(seed))

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            stories = list(pool.map(story, range(1, SAMPLES + 1)))
        language = Language()
        texts = [made["text"].removeprefix(" ") for made in stories if made["stop"] == "eos"]
        grammatical = sum(map(language.is_grammatical, texts))
        sound = sum(language.probability(text) > 0 for text in texts)
        modelled = answer("simulate", gguf, "--board", "esp32-cam", "--card", "flash", "-s", "1")["modelled"]
    rate = modelled["tok_per_s"]["typical"]
    print(f"{grammatical} of {SAMPLES} grammatical, {sound} with names and things kept, {rate:.1f} tokens a second modelled")
    return 0 if grammatical >= LEAST_GRAMMATICAL * SAMPLES and rate >= LEAST_TOKENS_PER_S else 1


if __name__ == "__main__":
    sys.exit(main())
