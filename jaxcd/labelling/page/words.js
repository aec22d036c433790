// Numbers and sentences as people read them.

export const percent = (value) => `${Math.round(100 * value)} %`;
export const whole = (value) => Math.round(value).toLocaleString("en");
export const capital = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;
export const sentence = (text) => `${capital(text)}${/[.!?]$/.test(text) ? "" : "."}`;
