// The sketch of the Arduino example, as PlatformIO has it.
#include <Arduino.h>

#include "../../arduino/Story/Story.ino"
